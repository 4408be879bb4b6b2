"""The accelerate backend: several processes give the scores of one, and what stops a worker is said in its words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_contracts.errors import CheckpointError
from evals.config import EvaluationConfig, SuiteConfig
from evals.harness.run import evaluate_checkpoint
from evals.items import load_evaluation

Write = Callable[..., Path]
Rows = list[dict[str, Any]]
CONFIG = EvaluationConfig(device="cpu", num_threads=1)


@pytest.mark.slow
def test_data_parallel_workers_give_the_scores_of_one_process(tiny_model: Path, suites: list[SuiteConfig], tmp_path: Path) -> None:
    one = evaluate_checkpoint(tiny_model, suites, tmp_path / "one", config=CONFIG, cache_dir=tmp_path / "cache")
    config = EvaluationConfig(device="cpu", num_threads=1, backend="accelerate", processes=2)
    seen: list[tuple[int, int, str]] = []
    two = evaluate_checkpoint(
        tiny_model, suites, tmp_path / "two", config=config, cache_dir=tmp_path / "cache", progress=lambda *step: seen.append(step)
    )
    assert {suite for _, _, suite in seen} == {suite.name for suite in suites}, "one bar follows the workers"
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)
    assert seen[-1][:2] == (84, 84)
    assert one.settings_sha256 != two.settings_sha256, "the backend is recorded, so that the gate refuses to compare across"
    assert [(s.name, s.n, s.suite_sha256) for s in one.suites] == [(s.name, s.n, s.suite_sha256) for s in two.suites]
    ours, theirs = load_evaluation(tmp_path / "one"), load_evaluation(tmp_path / "two")
    for name, items in ours.suites.items():
        np.testing.assert_allclose(items.score, theirs.suites[name].score, atol=1e-5)
        np.testing.assert_allclose(items.gold_logprob, theirs.suites[name].gold_logprob, atol=2e-4)


@pytest.mark.slow
def test_what_stops_a_worker_is_said_in_its_words(tiny_model: Path, suites: list[SuiteConfig], tmp_path: Path) -> None:
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    config = EvaluationConfig(device="cpu", num_threads=1, backend="accelerate", processes=2)
    with pytest.raises(CheckpointError, match="is not a complete safetensors file"):
        evaluate_checkpoint(broken, suites[:1], tmp_path / "out", config=config, cache_dir=tmp_path / "cache")
    assert not (tmp_path / "out" / "manifest.json").exists()
