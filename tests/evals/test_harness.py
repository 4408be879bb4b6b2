"""The harness on a tiny model: scores are lm-eval's, the cache is complete, bad input ends with a reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_contracts.errors import CheckpointError, EvaluationError
from evals.config import EvaluationConfig, SuiteConfig
from evals.harness import evaluate_checkpoint
from evals.items import load_evaluation

Write = Callable[..., Path]
Rows = list[dict[str, Any]]
CONFIG = EvaluationConfig(device="cpu", num_threads=1)


@pytest.fixture
def suites(write_rows: Write, choice_rows: Rows, answer_rows: Rows, text_rows: Rows, chat_rows: Rows) -> list[SuiteConfig]:
    return [
        SuiteConfig(name="colours", source=str(write_rows("colours.jsonl", choice_rows))),
        SuiteConfig(name="sums", source=str(write_rows("sums.jsonl", answer_rows)), max_new_tokens=4),
        SuiteConfig(name="text", source=str(write_rows("text.jsonl", text_rows)), category="drift"),
        SuiteConfig(name="even", source=str(write_rows("even.jsonl", chat_rows)), chat=True, choices=("no", "yes")),
        SuiteConfig(name="free", source=str(write_rows("free.jsonl", chat_rows)), chat=True, max_new_tokens=4),
    ]


def test_report_covers_every_suite_and_kind(tiny_model: Path, suites: list[SuiteConfig], tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    report = evaluate_checkpoint(
        tiny_model, suites, tmp_path / "out", config=CONFIG, cache_dir=tmp_path / "cache", progress=lambda *step: seen.append(step)
    )
    assert [(s.name, s.metric, s.n, s.higher_is_better) for s in report.suites] == [
        ("colours", "acc", 24, True),
        ("sums", "exact_match", 8, True),
        ("text", "bits_per_byte", 12, False),
        ("even", "acc", 20, True),
        ("free", "exact_match", 20, True),
    ]
    evaluation = load_evaluation(tmp_path / "out")
    for name, items in evaluation.suites.items():
        assert np.average(items.score, weights=items.weight) == pytest.approx(report.suite(name).score, abs=1e-12)
        assert np.isfinite(items.gold_logprob).all()
        assert len(set(items.doc_hash)) == items.result.n
    assert evaluation.suites["even"].prompt[0] == "<|user|>Is 0 even?<|end|><|assistant|>"
    assert evaluation.suites["colours"].prompt[0] == "Which colour is number 0?"
    done = [step[0] for step in seen]
    assert done == sorted(done)
    assert seen[-1][:2] == (84, 84)


def test_second_evaluation_computes_nothing(
    tiny_model: Path, suites: list[SuiteConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluate_checkpoint(tiny_model, suites, tmp_path / "a", config=CONFIG, cache_dir=tmp_path / "cache")
    monkeypatch.setattr("evals.harness._open_session", lambda *_: pytest.fail("a cached evaluation loaded the model"))
    second = evaluate_checkpoint(tiny_model, suites, tmp_path / "b", config=CONFIG, cache_dir=tmp_path / "cache")
    assert {role: ref.sha256 for role, ref in first.files.items()} == {role: ref.sha256 for role, ref in second.files.items()}
    assert [s.score for s in first.suites] == [s.score for s in second.suites]


def test_a_folder_without_a_model_is_refused(tmp_path: Path, suites: list[SuiteConfig]) -> None:
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        evaluate_checkpoint(tmp_path, suites, tmp_path / "out", config=CONFIG, cache_dir=tmp_path / "cache")
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_missing_suite_is_named(tiny_model: Path, tmp_path: Path) -> None:
    gone = SuiteConfig(name="gone", source=str(tmp_path / "gone.jsonl"))
    with pytest.raises(EvaluationError, match=r"gone.*cannot be read"):
        evaluate_checkpoint(tiny_model, [gone], tmp_path / "out", config=CONFIG, cache_dir=tmp_path / "cache")
