"""The settings that scores depend on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evals.config import EvaluationConfig, SuiteConfig
from evals.harness.fill import Counter, harness_settings, resolve_dtype
from evals.harness.run import evaluate_checkpoint
from evals.items import load_evaluation

Write = Callable[..., Path]
Rows = list[dict[str, Any]]
CONFIG = EvaluationConfig(device="cpu", num_threads=1)


@pytest.mark.parametrize(("mine", "other"), [("hf", "vllm"), ("hf", "accelerate")])
def test_scores_of_two_backends_are_never_compared(
    tiny_model: Path, write_rows: Write, choice_rows: Rows, tmp_path: Path, mine: str, other: str
) -> None:
    """The backend is in the settings' digest, so neither the cache nor the gate takes the one's scores for the other's."""
    from dataclasses import replace

    from data_contracts.digests import value_digest
    from data_contracts.manifests import Decision
    from evals.gate.decide import GateEvidence, GatePolicy, decide

    suite = SuiteConfig(name="colours", source=str(write_rows("colours.jsonl", choice_rows)))
    evaluate_checkpoint(tiny_model, [suite], tmp_path / "a", config=CONFIG, cache_dir=tmp_path / "cache")
    champion = load_evaluation(tmp_path / "a")
    settings = harness_settings(EvaluationConfig(device="cpu", backend=other))
    assert champion.report.settings["backend"] == mine
    report = champion.report.model_copy(update={"settings": settings, "settings_sha256": value_digest(settings)})
    verdict = decide(GateEvidence(replace(champion, report=report), champion, {"colours": champion}, None, bootstrap=True), GatePolicy())
    assert verdict.decision is Decision.ERROR
    assert f"backend: '{mine}', now '{other}'" in " ".join(verdict.reasons)


def test_the_dtype_follows_the_device_unless_it_is_named() -> None:
    assert resolve_dtype(EvaluationConfig(), "cpu") == "float32"
    assert resolve_dtype(EvaluationConfig(), "cuda:0") == "bfloat16"
    assert resolve_dtype(EvaluationConfig(dtype="float16"), "cpu") == "float16"


@pytest.mark.parametrize("change", [{"seed": 1}, {"max_length": 64}, {"dtype": "bfloat16"}, {"backend": "accelerate"}])
def test_every_setting_that_changes_scores_is_recorded(change: dict[str, Any]) -> None:
    assert harness_settings(EvaluationConfig(device="cpu", **change)) != harness_settings(EvaluationConfig(device="cpu"))


@pytest.mark.parametrize("change", [{"processes": 4}, {"max_batch_size": 2}, {"num_threads": 1}, {"data_folder": "x"}])
def test_what_only_changes_the_speed_or_the_place_is_not(change: dict[str, Any]) -> None:
    assert harness_settings(EvaluationConfig(device="cpu", **change)) == harness_settings(EvaluationConfig(device="cpu"))


def test_a_counter_never_passes_its_total_and_ends_there() -> None:
    seen: list[tuple[int, int, str]] = []
    counter = Counter(lambda *step: seen.append(step), total=10)
    counter.start("a", cached=2)
    counter.advance(0.4)
    counter.advance(0.4)
    counter.reach(7, "b")
    counter.reach(5, "b")
    counter.advance(9.0)
    counter.finish()
    assert seen == [(2, 10, "a"), (2, 10, "a"), (3, 10, "a"), (7, 10, "b"), (7, 10, "b"), (10, 10, "b"), (10, 10, "b")]
    Counter(None, total=1).finish()
