"""The audit against matrices worked out by hand, and the sign of everything it reports."""

from __future__ import annotations

import numpy as np
import pytest

from data_contracts.errors import EvaluationError
from data_contracts.manifests import Decision, LayerCapacity
from evals.audit.churn import fate_of
from evals.audit.forgetting import ForgettingAudit, RoundEvaluation, audit_forgetting


def _share(right: float, n: int = 100) -> np.ndarray:
    score = np.zeros(n)
    score[: round(right * n)] = 1
    return score


@pytest.fixture
def hand_made(make_suite, make_evaluation):
    """Three rounds whose matrix is known: rows base, a, b, c; columns a, b, c."""
    matrix = np.array([[0.20, 0.30, 0.40], [0.90, 0.35, 0.38], [0.95, 0.80, 0.42], [0.85, 0.70, 0.90]])
    rows = []
    for number, (skill, scores) in enumerate(zip((None, "a", "b", "c"), matrix, strict=True)):
        suites = [make_suite(name, _share(score)) for name, score in zip("abc", scores, strict=True)]
        suites.append(make_suite("piqa", _share(0.7 - 0.01 * number), category="general"))
        rows.append(RoundEvaluation(number, skill, make_evaluation(f"m{number}", *suites), Decision.PASS if number else None))
    return rows


def test_transfer_equals_the_hand_computed_matrix(hand_made) -> None:
    transfer = audit_forgetting(hand_made).transfer
    assert transfer.average_accuracy.value == pytest.approx((0.85 + 0.70 + 0.90) / 3)
    assert transfer.average_accuracy_base.value == pytest.approx((0.20 + 0.30 + 0.40) / 3)
    assert transfer.bwt.value == pytest.approx(((0.85 - 0.90) + (0.70 - 0.80)) / 2)
    assert transfer.forgetting.value == pytest.approx(((0.95 - 0.85) + (0.80 - 0.70)) / 2)
    assert transfer.forward_transfer.value == pytest.approx(((0.35 - 0.30) + (0.42 - 0.40)) / 2)


def test_intervals_hold_their_values(hand_made) -> None:
    audit = audit_forgetting(hand_made)
    estimates = [audit.transfer.average_accuracy, audit.transfer.bwt, audit.transfer.forgetting, *(skill.change for skill in audit.skills)]
    assert all(each.low <= each.value <= each.high for each in estimates)
    assert audit.transfer.bwt.high < 0 < audit.transfer.forgetting.low


def test_learned_best_now(hand_made) -> None:
    first = audit_forgetting(hand_made).skills[0]
    assert (first.suite, first.learned_row, first.best_row) == ("a", 1, 2)
    assert (first.before, first.learned, first.best, first.now) == (0.2, 0.9, 0.95, 0.85)
    assert first.change.value == pytest.approx(-0.05)


def test_general_suites_are_counted_from_the_base(hand_made) -> None:
    [change] = audit_forgetting(hand_made).changes
    assert (change.suite, change.base, change.now) == ("piqa", 0.7, 0.67)
    assert change.change.value == pytest.approx(-0.03)


def test_a_blocked_round_is_shown_and_counts_for_nothing(hand_made) -> None:
    plain = audit_forgetting(hand_made)
    bad = RoundEvaluation(9, "z", hand_made[0].evaluation, Decision.BLOCK)
    audit = audit_forgetting([*hand_made[:2], bad, *hand_made[2:]])
    assert audit.lineage_rows == (0, 1, 3, 4)
    assert len(audit.matrix) == 5
    assert audit.transfer == plain.transfer


def test_a_rolled_back_round_counts_for_nothing(hand_made) -> None:
    from dataclasses import replace

    audit = audit_forgetting([*hand_made[:3], replace(hand_made[2], rolled_back=True), hand_made[3]])
    assert audit.lineage_rows == (0, 1, 2, 4)
    assert audit.transfer == audit_forgetting(hand_made).transfer


def test_an_approved_round_counts(hand_made) -> None:
    held = RoundEvaluation(2, "b", hand_made[2].evaluation, Decision.INCONCLUSIVE, approved=True)
    assert audit_forgetting([*hand_made[:2], held, hand_made[3]]).transfer == audit_forgetting(hand_made).transfer


def test_one_round_has_no_backward_transfer(hand_made) -> None:
    transfer = audit_forgetting(hand_made[:2], base_skills=()).transfer
    assert transfer.bwt is None
    assert transfer.forgetting is None
    assert transfer.average_accuracy.value == pytest.approx(0.9)


def test_any_list_of_checkpoints(hand_made) -> None:
    """Nobody named skills: everything is counted from the first checkpoint."""
    anonymous = [RoundEvaluation(row.number, None, row.evaluation, label=f"ft{row.number}") for row in hand_made]
    audit = audit_forgetting(anonymous)
    assert [skill.learned for skill in audit.skills] == [0.2, 0.3, 0.4]
    assert audit.transfer.bwt.value == pytest.approx(((0.85 - 0.20) + (0.70 - 0.30) + (0.90 - 0.40)) / 3)


def test_items_are_paired_by_document_not_by_place(make_suite, make_evaluation) -> None:
    from dataclasses import replace

    suite = make_suite("a", _share(0.6))
    order = np.random.default_rng(0).permutation(100)
    shuffled = replace(
        suite,
        doc_hash=tuple(suite.doc_hash[i] for i in order),
        prompt_hash=tuple(suite.prompt_hash[i] for i in order),
        score=suite.score[order],
        gold_logprob=suite.gold_logprob[order],
        prediction=tuple(suite.prediction[i] for i in order),
    )
    audit = audit_forgetting(
        [RoundEvaluation(0, None, make_evaluation("m0", suite)), RoundEvaluation(1, None, make_evaluation("m1", shuffled))]
    )
    assert audit.churn[0].kept == 60
    assert audit.churn_items == ()
    assert audit.skills[0].change.low == audit.skills[0].change.high == 0.0


def test_a_changed_suite_is_a_gap_not_a_difference(make_suite, make_evaluation) -> None:
    old = make_evaluation("m0", make_suite("a", _share(0.9), suite_sha256="1" * 64))
    new = make_evaluation("m1", make_suite("a", _share(0.5), suite_sha256="2" * 64))
    audit = audit_forgetting([RoundEvaluation(0, None, old), RoundEvaluation(1, None, new)])
    assert audit.matrix == ((None,), (0.5,))
    assert "a changed after round 0" in audit.gaps[0]
    assert audit.transfer.bwt is None


def test_other_settings_are_said(make_suite, make_evaluation) -> None:
    rows = [
        RoundEvaluation(0, None, make_evaluation("m0", make_suite("a", _share(0.9)), settings={"dtype": "bfloat16"})),
        RoundEvaluation(1, None, make_evaluation("m1", make_suite("a", _share(0.9)))),
    ]
    assert "other settings" in audit_forgetting(rows).gaps[0]


def test_nan_scores_are_a_gap(make_suite, make_evaluation) -> None:
    spoiled = make_evaluation("m0", make_suite("a", np.full(10, np.nan)))
    audit = audit_forgetting(
        [RoundEvaluation(0, None, spoiled), RoundEvaluation(1, None, make_evaluation("m1", make_suite("a", _share(0.5, 10))))]
    )
    assert audit.matrix == ((None,), (0.5,))
    assert "not finite" in audit.gaps[0]


def test_later_suites_of_an_earlier_checkpoint(make_suite, make_evaluation) -> None:
    base = RoundEvaluation(
        0, None, make_evaluation("m0", make_suite("a", _share(0.2))), also=[make_evaluation("m0", make_suite("b", _share(0.4)))]
    )
    audit = audit_forgetting([base])
    assert [suite.name for suite in audit.suites] == ["a", "b"]
    assert audit.matrix == ((0.2, 0.4),)
    other = RoundEvaluation(
        0, None, make_evaluation("m0", make_suite("a", _share(0.2))), also=[make_evaluation("m1", make_suite("b", _share(0.4)))]
    )
    with pytest.raises(EvaluationError, match="two checkpoints"):
        audit_forgetting([other])


def test_an_empty_lineage_is_refused() -> None:
    with pytest.raises(EvaluationError, match="empty"):
        audit_forgetting([])


def test_drift_is_weighted_by_bytes(make_suite, make_evaluation) -> None:
    text = make_suite("text", [1.0, 2.0], category="drift", weight=[300, 100])
    assert audit_forgetting([RoundEvaluation(0, None, make_evaluation("m0", text))]).matrix == ((1.25,),)


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


def test_sealed_items_are_counted_and_not_shown(make_suite, make_evaluation) -> None:
    rows = [
        RoundEvaluation(n, None, make_evaluation(f"m{n}", make_suite("a.sealed", _share(s), sealed=True))) for n, s in enumerate((0.9, 0.4))
    ]
    audit = audit_forgetting(rows)
    assert audit.churn[0].lost_now == 50
    assert audit.churn_items == ()
    assert audit.transfer.average_accuracy is None


def test_text_of_at_most_so_many_items(hand_made) -> None:
    audit = audit_forgetting(hand_made, items_per_suite=3)
    assert sum(item.suite == "a" for item in audit.churn_items) == 3
    assert next(each for each in audit.churn if each.suite == "a").lost_now == 10


def test_log_probabilities_drift(make_suite, make_evaluation) -> None:
    likely = np.random.default_rng(0).normal(-1, 0.3, 100)
    rows = [RoundEvaluation(n, None, make_evaluation(f"m{n}", make_suite("a", _share(0.5), logprob=likely - 0.1 * n))) for n in range(3)]
    points = audit_forgetting(rows).logprobs
    assert [point.row for point in points] == [0, 1, 2]
    assert points[0].change is None
    assert points[2].change.value == pytest.approx(-0.1)


def test_capacity(hand_made) -> None:
    from dataclasses import replace

    layers = {
        "wide": LayerCapacity(shape=(64, 32), protected=8, trainable=8, free=24, leak=0.0),
        "tight": LayerCapacity(shape=(32, 32), protected=24, trainable=4, free=8, leak=0.0),
    }
    audit = audit_forgetting([hand_made[0], replace(hand_made[1], layers=layers)])
    assert audit.rounds[0].free_share is None
    assert audit.rounds[1].free_share == pytest.approx((24 / 32 + 8 / 32) / 2)
    assert audit.rounds[1].rounds_left == 2


def test_json_round_trip(hand_made) -> None:
    audit = audit_forgetting(hand_made)
    assert ForgettingAudit.model_validate_json(audit.model_dump_json()) == audit
    assert audit_forgetting(hand_made) == audit


def test_a_skill_does_not_stand_in_for_a_base_that_was_never_measured(make_suite, make_evaluation) -> None:
    from evals.audit.forgetting import RoundEvaluation, audit_forgetting

    learned = RoundEvaluation(1, "a", make_evaluation("m1", make_suite("a", np.ones(40))), approved=True)
    [alone] = audit_forgetting([learned]).skills
    assert (alone.before, alone.learned) == (None, 1.0)
    base = RoundEvaluation(0, None, make_evaluation("m0", make_suite("a", np.zeros(40))), approved=True)
    [both] = audit_forgetting([base, learned]).skills
    assert (both.before, both.learned) == (0.0, 1.0)
