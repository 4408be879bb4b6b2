"""Which items were lost, regained or learned: fates by hand, and counts over a lineage."""

from __future__ import annotations

import pytest

from evals.audit.churn import fate_of
from evals.audit.forgetting import RoundEvaluation, audit_forgetting


@pytest.mark.parametrize(
    ("right", "fate"),
    [
        ([1, 1, 1], None),
        ([0, 0, 0], None),
        ([1, 1, 0], "lost_now"),
        ([1, 0, 0], "never_recovered"),
        ([0, 1, 0, 0], "never_recovered"),
        ([1, 0, 1], "regained"),
        ([0, 1, 0, 1], "regained"),
        ([0, 0, 1], "learned"),
    ],
)
def test_fates(right: list[int], fate: str | None) -> None:
    assert fate_of([bool(each) for each in right]) == fate


def test_churn_starts_where_the_skill_was_learned_and_shows_text(hand_made) -> None:
    audit = audit_forgetting(hand_made)
    counts = {churn.suite: churn for churn in audit.churn}
    assert (counts["a"].lost_now, counts["a"].never_recovered, counts["a"].kept) == (10, 0, 85)
    assert counts["b"].lost_now == 10
    assert "c" not in counts
    item = next(each for each in audit.churn_items if each.suite == "a")
    assert item.right == (True, True, False) or item.right == (False, True, False)
    assert item.prompt.startswith("Question")
    assert item.predictions[-1] == f"not {item.gold}"


def test_sealed_items_are_counted_and_not_shown(make_suite, make_evaluation, share) -> None:
    rows = [
        RoundEvaluation(n, None, make_evaluation(f"m{n}", make_suite("a.sealed", share(s), sealed=True))) for n, s in enumerate((0.9, 0.4))
    ]
    audit = audit_forgetting(rows)
    assert audit.churn[0].lost_now == 50
    assert audit.churn_items == ()
    assert audit.transfer.average_accuracy is None


def test_text_of_at_most_so_many_items(hand_made) -> None:
    audit = audit_forgetting(hand_made, items_per_suite=3)
    assert sum(item.suite == "a" for item in audit.churn_items) == 3
    assert next(each for each in audit.churn if each.suite == "a").lost_now == 10
