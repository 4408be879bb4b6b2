"""Items drawn by margin on a tiny model: who is read, what is stored of it, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_contracts.errors import EvaluationError
from evals.config import EvaluationConfig, SuiteConfig
from evals.drawing import inclusion_chances, item_sizes
from evals.gate.validity import draw_faults
from evals.harness.run import evaluate_checkpoint
from evals.items import Evaluation, load_evaluation

Write = Callable[..., Path]
Rows = list[dict[str, Any]]
CONFIG = EvaluationConfig(device="cpu", num_threads=1)
CHOICES = ["red", "green", "blue-green", "black and white"]


def _evaluate(model: Path, suite: SuiteConfig, folder: Path, name: str) -> Evaluation:
    evaluate_checkpoint(model, [suite], folder / name, config=CONFIG, cache_dir=folder / "cache")
    return load_evaluation(folder / name)


@pytest.fixture(params=["file", "file by length", "task"])
def suite(request: pytest.FixtureRequest, write_rows: Write) -> SuiteConfig:
    if request.param == "task":
        rows = [{"goal": f"Open box {n}", "sol1": "pull", "sol2": "push it twice", "label": n % 2} for n in range(24)]
        return SuiteConfig(name="piqa", source="piqa", data={"validation": str(write_rows("piqa.jsonl", rows))})
    rows = [{"prompt": f"Which colour is number {n}?", "choices": CHOICES, "gold": n % 4} for n in range(24)]
    metric = "acc_norm" if request.param == "file by length" else "auto"
    return SuiteConfig(name="colours", source=str(write_rows("colours.jsonl", rows)), metric=metric)  # type: ignore[arg-type]


def test_what_is_read_is_weighted_stored_and_can_be_drawn_again(tiny_model: Path, suite: SuiteConfig, tmp_path: Path) -> None:
    every = _evaluate(tiny_model, suite, tmp_path, "pool")
    whole = every.suites[suite.name]
    drawing = suite.model_copy(update={"draw": "margin", "items": 10, "pool": str(tmp_path / "pool")})
    drawn = _evaluate(tiny_model, drawing, tmp_path, "drawn")
    items, result = drawn.suites[suite.name], drawn.suites[suite.name].result
    assert (result.n, result.available, result.drawn_by) == (10, 24, every.model_sha256)
    assert list(draw_faults(items)) == []
    distance = dict(zip(whole.doc_hash, np.abs(np.array(whole.margin, dtype=float)), strict=True))
    chance = dict(zip(whole.doc_hash, inclusion_chances(item_sizes(np.array(list(distance.values()))), 10), strict=True))
    np.testing.assert_allclose(items.weight, [1.0 / chance[doc] for doc in items.doc_hash])
    scores = dict(zip(whole.doc_hash, whole.score, strict=True))
    assert items.score.tolist() == [scores[doc] for doc in items.doc_hash]
    assert result.score == pytest.approx(np.average(items.score, weights=items.weight))
    assert result.suite_sha256 != whole.result.suite_sha256
    again = _evaluate(tiny_model, drawing.model_copy(update={"items": 15}), tmp_path, "more")
    assert set(items.doc_hash) < set(again.suites[suite.name].doc_hash), "a second look keeps the items of the first"


def test_margins_are_those_of_the_choices_that_are_ranked(tiny_model: Path, suite: SuiteConfig, tmp_path: Path) -> None:
    items = _evaluate(tiny_model, suite, tmp_path, "pool").suites[suite.name]
    texts = ["pull", "push it twice"] if suite.name == "piqa" else CHOICES
    divide = [len(text) for text in texts] if suite.metric == "acc_norm" else [1] * len(texts)
    for index in range(24):
        nats = items.choice_logprobs[index]
        assert nats is not None
        gold = texts.index(items.gold[index])
        ranked = [each / by for each, by in zip(nats, divide, strict=True)]
        others = [each for place, each in enumerate(ranked) if place != gold]
        assert items.margin[index] == pytest.approx(ranked[gold] - max(others))
        assert (items.margin[index] > 0) == (items.score[index] == 1.0)
        assert items.gold_probability[index] == pytest.approx(np.exp(nats[gold]) / np.exp(nats).sum())
        assert items.gold_logprob[index] == nats[gold]


def test_a_draw_without_margins_is_refused(tiny_model: Path, write_rows: Write, answer_rows: Rows, tmp_path: Path) -> None:
    sums = SuiteConfig(name="sums", source=str(write_rows("sums.jsonl", answer_rows)), max_new_tokens=4)
    _evaluate(tiny_model, sums, tmp_path, "pool")
    drawing = sums.model_copy(update={"draw": "margin", "items": 3})
    with pytest.raises(EvaluationError, match=r"no model was read on all of them.*leave out `draw: margin`"):
        _evaluate(tiny_model, drawing, tmp_path, "drawn")
    with pytest.raises(EvaluationError, match=r"8 of 8 have none.*for items with choices"):
        _evaluate(tiny_model, drawing.model_copy(update={"pool": str(tmp_path / "pool")}), tmp_path, "drawn")


@pytest.mark.parametrize("fields", [{"category": "drift"}, {"metric": "exact_match"}, {"metric": "bits_per_byte"}])
def test_texts_and_generated_answers_have_no_margin(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="draw: margin needs items with choices"):
        SuiteConfig(name="text", draw="margin", **fields)
