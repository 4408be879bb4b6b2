"""The harness on a tiny model: scores are lm-eval's, the cache is complete, bad input ends with a reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_contracts.errors import CheckpointError, ConfigError, EvaluationError
from evals.config import EvaluationConfig, SuiteConfig
from evals.harness.run import evaluate_checkpoint
from evals.items import load_evaluation

Write = Callable[..., Path]
Rows = list[dict[str, Any]]
CONFIG = EvaluationConfig(device="cpu", num_threads=1)


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
    monkeypatch.setattr("evals.harness.session.load_model", lambda *_, **__: pytest.fail("a cached evaluation loaded the model"))
    second = evaluate_checkpoint(tiny_model, suites, tmp_path / "b", config=CONFIG, cache_dir=tmp_path / "cache")
    assert {role: ref.sha256 for role, ref in first.files.items()} == {role: ref.sha256 for role, ref in second.files.items()}
    assert [s.score for s in first.suites] == [s.score for s in second.suites]


def test_weights_are_verified_where_they_are_loaded_and_only_there(tiny_model: Path, suites: list[SuiteConfig], tmp_path: Path) -> None:
    def changed() -> None:
        raise CheckpointError(str(tiny_model), "has changed", "restore it")

    where = {"config": CONFIG, "cache_dir": tmp_path / "cache"}
    with pytest.raises(CheckpointError, match="has changed"):
        evaluate_checkpoint(tiny_model, suites[:1], tmp_path / "a", verify=changed, **where)
    assert not (tmp_path / "a" / "manifest.json").exists()
    report = evaluate_checkpoint(tiny_model, suites[:1], tmp_path / "b", **where)
    assert evaluate_checkpoint(tiny_model, suites[:1], tmp_path / "c", verify=changed, **where).suites[0].score == report.suites[0].score


def test_a_folder_without_a_model_is_refused(tmp_path: Path, suites: list[SuiteConfig]) -> None:
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        evaluate_checkpoint(tmp_path, suites, tmp_path / "out", config=CONFIG, cache_dir=tmp_path / "cache")
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_missing_suite_is_named(tiny_model: Path, tmp_path: Path) -> None:
    gone = SuiteConfig(name="gone", source=str(tmp_path / "gone.jsonl"))
    with pytest.raises(EvaluationError, match=r"gone\.jsonl.*does not exist"):
        evaluate_checkpoint(tiny_model, [gone], tmp_path / "out", config=CONFIG, cache_dir=tmp_path / "cache")


def test_a_larger_limit_computes_only_the_new_items(tiny_model: Path, write_rows: Write, choice_rows: Rows, tmp_path: Path) -> None:
    from evals.harness.plan import more_items
    from evals.harness.session import Session

    asked: list[int] = []
    score = Session.score

    def counted(self: Session, suite: SuiteConfig, items: Any, advance: Any) -> Any:
        asked.append(len(items))
        return score(self, suite, items, advance)

    few = [SuiteConfig(name="colours", source=str(write_rows("colours.jsonl", choice_rows)), items=8)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "score", counted)
        evaluate_checkpoint(tiny_model, few, tmp_path / "a", config=CONFIG, cache_dir=tmp_path / "cache")
        evaluate_checkpoint(tiny_model, more_items(few, {"colours": 16}), tmp_path / "b", config=CONFIG, cache_dir=tmp_path / "cache")
    first, second = (load_evaluation(tmp_path / name).suites["colours"] for name in "ab")
    assert asked == [8, 8]
    assert set(first.doc_hash) < set(second.doc_hash)
    assert (second.result.n, second.result.available) == (16, 24)
    assert first.result.suite_sha256 != second.result.suite_sha256


def test_a_damaged_cache_is_computed_again(tiny_model: Path, write_rows: Write, choice_rows: Rows, tmp_path: Path) -> None:
    suites = [SuiteConfig(name="colours", source=str(write_rows("colours.jsonl", choice_rows)))]
    first = evaluate_checkpoint(tiny_model, suites, tmp_path / "a", config=CONFIG, cache_dir=tmp_path / "cache")
    (cached,) = (tmp_path / "cache").rglob("*.parquet")
    cached.write_bytes(cached.read_bytes()[:-20])
    second = evaluate_checkpoint(tiny_model, suites, tmp_path / "b", config=CONFIG, cache_dir=tmp_path / "cache")
    assert first.files["items/colours"].sha256 == second.files["items/colours"].sha256


def test_corrupt_items_are_an_error_and_name_the_file(tiny_model: Path, write_rows: Write, choice_rows: Rows, tmp_path: Path) -> None:
    from data_contracts.errors import ManifestError
    from evals.items import read_items

    suites = [SuiteConfig(name="colours", source=str(write_rows("colours.jsonl", choice_rows)))]
    report = evaluate_checkpoint(tiny_model, suites, tmp_path / "a", config=CONFIG, cache_dir=tmp_path / "cache")
    parquet = tmp_path / "a" / "items" / "colours.parquet"
    parquet.write_bytes(b"not parquet")
    with pytest.raises(ManifestError, match=r"colours\.parquet.*changed"):
        load_evaluation(tmp_path / "a")
    with pytest.raises(EvaluationError, match=r"colours\.parquet.*Parquet"):
        read_items(parquet, report.suite("colours"))


def test_weights_that_do_not_load_are_a_checkpoint_error(tiny_model: Path, write_rows: Write, choice_rows: Rows, tmp_path: Path) -> None:
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    suites = [SuiteConfig(name="colours", source=str(write_rows("colours.jsonl", choice_rows)))]
    earlier = evaluate_checkpoint(tiny_model, suites, tmp_path / "earlier", config=CONFIG, cache_dir=tmp_path / "cache")
    with pytest.raises(CheckpointError, match="is not a complete safetensors file"):
        evaluate_checkpoint(broken, suites, tmp_path / "out", config=CONFIG, cache_dir=tmp_path / "cache")
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert load_evaluation(tmp_path / "earlier").report == earlier, "earlier reports stay readable"


def test_vllm_is_refused_where_it_is_not_installed(tiny_model: Path, suites: list[SuiteConfig], tmp_path: Path) -> None:
    from importlib.util import find_spec

    if find_spec("vllm"):
        pytest.skip("vLLM is installed here")
    config = EvaluationConfig(backend="vllm")
    with pytest.raises(ConfigError, match="vLLM is not installed"):
        evaluate_checkpoint(tiny_model, suites, tmp_path / "out", config=config, cache_dir=tmp_path / "cache")
