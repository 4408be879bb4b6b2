"""Two checkpoints suite by suite: counts are of paired items, and what cannot be compared is said."""

from __future__ import annotations

import numpy as np
import pytest

from evals.audit.compare import compare_evaluations

LABELS = ("round 1", "round 2")


def test_items_are_compared_one_by_one_and_not_by_their_mean(make_suite, make_evaluation, share, flip) -> None:
    one = share(0.5)
    other = flip(one, lost=20, won=20)
    (row,), gaps = compare_evaluations(
        [make_evaluation("m1", make_suite("a", one))], [make_evaluation("m2", make_suite("a", other))], LABELS
    )
    assert (row.one, row.other, row.worse, row.better, gaps) == (0.5, 0.5, 20, 20, ())
    assert row.change is not None
    assert row.change.value == 0.0
    assert row.change.low < 0.0 < row.change.high


def test_of_bits_per_byte_less_is_better(make_suite, make_evaluation) -> None:
    before = np.linspace(0.8, 1.2, 60)
    after = before.copy()
    after[:6] += 0.1
    after[6:8] -= 0.1
    texts = [make_evaluation(name, make_suite("prose", score, category="drift")) for name, score in (("m1", before), ("m2", after))]
    (row,), _ = compare_evaluations(texts[:1], texts[1:], LABELS)
    assert (row.worse, row.better) == (6, 2)
    assert row.change is not None
    assert row.change.value == pytest.approx(0.4 / 60), "the change is in the suite's own unit: bits per byte rose"


def test_a_suite_of_one_checkpoint_has_a_score_and_no_change(make_suite, make_evaluation, share) -> None:
    one = make_evaluation("m1", make_suite("a", share(0.5)))
    other = make_evaluation("m2", make_suite("a", share(0.5)), make_suite("b", share(0.8)))
    rows = {row.suite: row for row in compare_evaluations([one], [other], LABELS)[0]}
    assert (rows["b"].one, rows["b"].other) == (None, 0.8)
    assert (rows["b"].change, rows["b"].worse, rows["b"].better) == (None, None, None)


def test_a_later_report_of_a_checkpoint_replaces_the_suite_of_an_earlier_one(make_suite, make_evaluation, share) -> None:
    first, later = make_evaluation("m1", make_suite("a", share(0.2))), make_evaluation("m1", make_suite("a", share(0.4)))
    (row,), _ = compare_evaluations([first, later], [make_evaluation("m2", make_suite("a", share(0.4)))], LABELS)
    assert (row.one, row.worse, row.better) == (0.4, 0, 0)
