"""The audit against matrices worked out by hand, and the sign of everything it reports."""

from __future__ import annotations

import numpy as np
import pytest

from data_contracts.errors import EvaluationError
from data_contracts.manifests import Decision, LayerCapacity
from evals.audit.forgetting import ForgettingAudit, RoundEvaluation, audit_forgetting
from evals.gate.decide import GateEvidence, GatePolicy, decide


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


def test_any_list_of_checkpoints(hand_made) -> None:
    """Nobody named skills: everything is counted from the first checkpoint."""
    anonymous = [RoundEvaluation(row.number, None, row.evaluation, label=f"ft{row.number}") for row in hand_made]
    audit = audit_forgetting(anonymous)
    assert [skill.learned for skill in audit.skills] == [0.2, 0.3, 0.4]
    assert audit.transfer.bwt.value == pytest.approx(((0.85 - 0.20) + (0.70 - 0.30) + (0.90 - 0.40)) / 3)


def test_later_suites_of_an_earlier_checkpoint(make_suite, make_evaluation, share) -> None:
    base = RoundEvaluation(
        0, None, make_evaluation("m0", make_suite("a", share(0.2))), also=[make_evaluation("m0", make_suite("b", share(0.4)))]
    )
    audit = audit_forgetting([base])
    assert [suite.name for suite in audit.suites] == ["a", "b"]
    assert audit.matrix == ((0.2, 0.4),)
    other = RoundEvaluation(
        0, None, make_evaluation("m0", make_suite("a", share(0.2))), also=[make_evaluation("m1", make_suite("b", share(0.4)))]
    )
    with pytest.raises(EvaluationError, match="two checkpoints"):
        audit_forgetting([other])


def test_an_empty_lineage_is_refused() -> None:
    with pytest.raises(EvaluationError, match="empty"):
        audit_forgetting([])


def test_log_probabilities_drift(make_suite, make_evaluation, share) -> None:
    likely = np.random.default_rng(0).normal(-1, 0.3, 100)
    rows = [RoundEvaluation(n, None, make_evaluation(f"m{n}", make_suite("a", share(0.5), logprob=likely - 0.1 * n))) for n in range(3)]
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


def test_a_refreshed_skill_has_a_suite_per_teaching_and_further_items_count_from_the_first(make_suite, make_evaluation, share) -> None:
    """Rows: base, a, b, a again. `a.2` was learned in row 3; `a` and the items that were added later, `a.more`, in row 1."""
    scores = {"a": (0.2, 0.9, 0.9, 0.8), "a.more": (0.2, 0.9, 0.8, 0.7), "b": (0.1, 0.1, 0.7, 0.7), "a.2": (0.1, 0.3, 0.3, 0.9)}
    rows = []
    for number, skill in enumerate((None, "a", "b", "a.2")):
        suites = [make_suite(name, share(values[number])) for name, values in scores.items()]
        rows.append(RoundEvaluation(number, skill, make_evaluation(f"m{number}", *suites), Decision.PASS if number else None))
    audit = audit_forgetting(rows)
    assert {each.suite: each.learned_row for each in audit.skills} == {"a": 1, "a.more": 1, "b": 2, "a.2": 3}
    assert {each.suite: each.change.value for each in audit.skills} == pytest.approx({"a": -0.1, "a.more": -0.2, "b": 0.0, "a.2": 0.0})


def test_a_suites_change_has_the_interval_that_the_gate_gives_it(make_suite, make_evaluation) -> None:
    """A round's page shows the gate's change against the anchor, the lineage's the audit's since it was learned: the same numbers."""
    right = np.r_[np.ones(300), np.zeros(100)]
    now = right.copy()
    now[:9], now[-2:] = 0.0, 1.0
    texts, new = np.linspace(0.8, 1.2, 60), (np.zeros(400), np.ones(400))
    anchor, champion, candidate = (
        make_evaluation(
            name,
            make_suite("old", score),
            make_suite("piqa", score, category="general", cluster=[f"passage {index // 4}" for index in range(400)]),
            make_suite("text", texts * bits + wobble, category="drift", weight=np.arange(1, 61)),
            make_suite("new", learned),
        )
        for name, score, bits, wobble, learned in (
            ("anchor", right, 1.0, 0.0, new[0]),
            ("champion", right, 1.001, 0.0, new[0]),
            ("candidate", now, 1.004, np.linspace(-1, 1, 60) * 1e-3, new[1]),
        )
    )
    verdict = decide(GateEvidence(candidate, champion, dict.fromkeys(("old", "piqa", "text"), anchor), "new"), GatePolicy())
    audit = audit_forgetting(
        [
            RoundEvaluation(0, None, anchor),
            RoundEvaluation(1, None, champion, Decision.PASS),
            RoundEvaluation(2, "new", candidate),
        ],
        base_skills=("old",),
    )
    asked = {check.subject: check for check in verdict.checks if check.check in ("anchor", "anchor_drift")}
    changes = {each.suite: each.change for each in (*audit.skills, *audit.changes)}
    for suite in ("old", "piqa"):
        found = (changes[suite].value, changes[suite].low, changes[suite].high)
        assert found == pytest.approx((asked[suite].effect, asked[suite].low, asked[suite].high), abs=1e-9)
    base = next(each.base for each in audit.changes if each.suite == "text")
    relative = tuple(-value / base for value in (changes["text"].value, changes["text"].high, changes["text"].low))
    assert relative == pytest.approx((asked["text"].effect, asked["text"].low, asked["text"].high), abs=1e-9)
