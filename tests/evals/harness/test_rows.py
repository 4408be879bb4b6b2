"""Rows of the per-item store: their mean is lm-eval's own aggregate, and no number that is not finite gets in."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evals.config import EvaluationConfig, ModelUse, SuiteConfig

Write = Callable[..., Path]
Rows = list[dict[str, Any]]


@pytest.mark.parametrize("limit", [None, 5])
def test_aggregate_equals_lm_eval_on_the_same_items(
    session: Any, plain_lm: Any, write_rows: Write, choice_rows: Rows, tmp_path: Path, limit: int | None
) -> None:
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.tasks import TaskManager

    from evals.suites.items import load_items, select_items

    suite = SuiteConfig(name="colours", source=str(write_rows("colours.jsonl", choice_rows)), items=limit)
    items = select_items(load_items(suite), suite.items)
    rows = session.score(suite, items, lambda _: None)
    chosen = [{"prompt": item.prompt, "choices": list(item.choices), "gold": item.gold} for item in items]
    data = tmp_path / "chosen.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in chosen))
    task = {
        "task": "by_hand",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}, "cache_dir": str(tmp_path / "arrow")},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "prompt",
        "doc_to_choice": "choices",
        "doc_to_target": "gold",
    }
    theirs = simple_evaluate(plain_lm, tasks=[task], task_manager=TaskManager(include_defaults=False), bootstrap_iters=0)
    assert len(rows) == (limit or len(choice_rows))
    assert abs(rows["score"].mean() - theirs["results"]["by_hand"]["acc,none"]) <= 1e-12
    gold = [sample["filtered_resps"][sample["target"]][0] for sample in theirs["samples"]["by_hand"]]
    np.testing.assert_allclose(rows["gold_logprob"], gold, atol=2e-4)


def test_bits_per_byte_is_the_byte_weighted_mean(session: Any, write_rows: Write, text_rows: Rows) -> None:
    from evals.harness.run import mean_score
    from evals.suites.items import load_items

    suite = SuiteConfig(name="text", source=str(write_rows("text.jsonl", text_rows)))
    rows = session.score(suite, load_items(suite), lambda _: None)
    nats, size = rows["gold_logprob"].sum(), sum(len(row["text"].encode()) for row in text_rows)
    assert mean_score(rows) == pytest.approx(-nats / size / math.log(2), rel=1e-12)


def test_logits_that_are_not_finite_stop_the_evaluation(tiny_model: Path, write_rows: Write, choice_rows: Rows, tmp_path: Path) -> None:
    """All-NaN logits score one over the number of choices, so accuracy alone would pass."""
    import torch

    from data_contracts.errors import EvaluationError
    from evals.harness.session import Session
    from evals.suites.items import load_items

    broken = Session(tiny_model, EvaluationConfig(device="cpu", num_threads=1), ModelUse(), device="cpu", dtype="float32")
    with torch.no_grad():
        broken._lm.model.model.norm.weight.fill_(math.nan)
    suite = SuiteConfig(name="colours", source=str(write_rows("colours.jsonl", choice_rows)))
    with pytest.raises(EvaluationError, match="not finite"):
        broken.score(suite, load_items(suite), lambda _: None)
