"""What a report shows, before any template: effects in words, cells of the matrix, groups of checks and badges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from data_contracts.manifests import Decision
from evals.audit.forgetting import RoundEvaluation, audit_forgetting
from evals.audit.matrix import Estimate
from evals.gate.decide import GateEvidence, GatePolicy, decide
from evals.report.render import suite_floors
from evals.report.view import (
    budget_rows,
    budgets_of,
    change_words,
    digest_rows,
    estimate_words,
    last_measured,
    matrix_rows,
    noise_words,
    suite_curves,
    verdict_badge,
)

ACCEPTED = GatePolicy(accept_unmeasured=("general", "safety", "drift"))


@pytest.fixture
def audit(make_suite, make_evaluation):
    """Base, a round that learns `a`, and one that loses five points of it."""

    def share(right: float) -> np.ndarray:
        return np.r_[np.ones(round(right * 100)), np.zeros(100 - round(right * 100))]

    scores = ((0.1, 1.0), (0.9, 1.1), (0.85, 1.3))
    rows = []
    for number, (a, bits) in enumerate(scores):
        suites = [
            make_suite("a", share(a)),
            make_suite("text", [bits] * 40, category="drift"),
            make_suite("a.sealed", share(a), sealed=True),
        ]
        evaluation = make_evaluation(f"m{number}", *(suites[1:] if number == 0 else suites))
        rows.append(RoundEvaluation(number, "a" if number else None, evaluation, Decision.PASS if number else None))
    return audit_forgetting(rows)


def test_cells_say_what_was_learned_lost_and_not_measured(audit) -> None:
    suites, rows = matrix_rows(audit, drift=False, sealed=False)
    assert [suite.name for suite in suites] == ["a"]
    assert [[(cell.text, cell.kind, cell.note) for cell in cells] for _, cells in rows] == [
        [("·", "missing", "")],
        [("90.0", "learned", "learned")],
        [("85.0", "lost", "−5.0")],
    ]
    _, drift = matrix_rows(audit, drift=True, sealed=False)
    assert [cells[0].text for _, cells in drift] == ["1.000", "1.100", "1.300"]
    assert [cells[0].note for _, cells in drift] == ["", "+10.0 %", "+30.0 %"]
    assert [suite.name for suite in matrix_rows(audit, drift=False, sealed=True)[0]] == ["a.sealed"]


def test_curves_are_of_suites_that_are_not_sealed(audit) -> None:
    assert [suite.name for suite, _ in suite_curves(audit)] == ["a", "text"]
    assert change_words("text", audit).startswith("+30.0 % (")


def test_a_suites_budget_is_what_may_still_be_lost_and_a_gain_is_not_saved_up(audit) -> None:
    rows = {row.suite: row for row in budget_rows(audit, {"skill": 0.06, "drift": 0.5})}
    assert (rows["a"].since, rows["a"].unit, rows["text"].unit) == ("round 1: a", "points", "%")
    assert rows["a"].change == pytest.approx(-0.05)
    assert rows["a"].left == pytest.approx(0.06 - 0.05)
    assert rows["text"].change == pytest.approx(-0.3), "more bits per byte are a loss"
    assert (rows["a"].words, rows["text"].words) == ("−5.0 points", "+30.0 %"), "bits per byte have the sign that they have everywhere"
    assert rows["text"].left == pytest.approx(0.5 - 0.3)
    assert [*rows] == ["a", "text"], "least left first"
    assert replace(rows["a"], change=0.04).left == 0.06
    assert budget_rows(audit, {}) == []


def test_budgets_are_those_of_the_policy() -> None:
    policy = GatePolicy(anchor_budget=0.04, drift_budget=0.05).model_dump(mode="json")
    assert budgets_of(policy) == {"skill": 0.04, "general": 0.04, "safety": 0.04, "drift": 0.05}
    assert budgets_of({}) == {}


@pytest.mark.parametrize(
    ("low", "high", "higher", "words"),
    [
        (-0.2, -0.1, True, "lost, more than noise explains"),
        (0.1, 0.2, True, "gained, more than noise explains"),
        (-0.1, 0.1, True, "within noise"),
        (0.1, 0.2, False, "lost, more than noise explains"),
    ],
)
def test_a_change_is_called_noise_where_its_interval_holds_zero(low: float, high: float, higher: bool, words: str) -> None:
    assert noise_words(Estimate(value=0.0, low=low, high=high, n=10), higher_is_better=higher) == words


def test_an_estimate_has_its_sign_unless_it_is_an_average() -> None:
    estimate = Estimate(value=0.016, low=-0.008, high=0.024, n=10)
    assert estimate_words(estimate) == "+1.6 (−0.8 to +2.4)"
    assert estimate_words(estimate, plain=True) == "1.6 (-0.8 to 2.4)"
    assert estimate_words(None) == "n/a"


def test_a_badge_says_what_a_person_did() -> None:
    assert verdict_badge(None)[2] == "not judged"
    assert verdict_badge(Decision.PASS, approved=True)[2] == "Passed"
    assert verdict_badge(Decision.BLOCK, approved=True)[::2] == ("pass", "Blocked; approved by a person")
    assert verdict_badge(Decision.PASS, rolled_back=True)[2] == "Passed; rolled back"


def test_every_report_that_was_read_is_named(evidence) -> None:
    rows = dict(digest_rows(decide(evidence(), ACCEPTED)))
    assert {"Candidate", "Champion", "Report read: candidate", "Report read: anchor of old"} <= rows.keys()
    assert rows["Attempt of this round"] == "1"


@pytest.fixture
def own_margins(make_suite, make_evaluation):
    """Base, a round that learns `a`, one that loses three points of it; `a` and `text` have margins of their own, `old` was retired."""
    right = [np.r_[np.ones(n), np.zeros(100 - n)] for n in (10, 70, 67)]
    rows = []
    for number, score in enumerate(right):
        suites = [
            make_suite("a", score, margin=0.1),
            make_suite("text", [1.0 + 0.01 * number] * 40, category="drift", margin=0.05),
            make_suite("old", right[1], category="general"),
        ]
        evaluation = make_evaluation(f"m{number}", *(suites[:2] if number == 2 else suites))
        rows.append(RoundEvaluation(number, "a" if number else None, evaluation, Decision.PASS if number else None))
    return audit_forgetting(rows)


def test_a_suite_with_a_margin_of_its_own_may_lose_that_much_in_all(own_margins) -> None:
    """As the gate has it (GatePolicy.budget_of, drift_limits); a suite that is no longer measured has no budget left to speak of."""
    policy = GatePolicy()
    rows = {row.suite: row.budget for row in budget_rows(own_margins, budgets_of(policy.model_dump(mode="json")))}
    assert rows == {"a": policy.budget_of(0.1), "text": policy.drift_limits(0.05)[1]}
    wide = GatePolicy(drift_limit=0.04)
    assert budgets_of(wide.model_dump(mode="json"))["drift"] == wide.drift_limits(None)[1] == 0.04


def test_the_line_of_a_floor_is_where_the_gate_has_it(own_margins, make_evaluation) -> None:
    policy = GatePolicy(floors={"old": 0.2})
    verdict = decide(GateEvidence(made := make_evaluation("m"), made, {}, None), policy)
    assert suite_floors(verdict, own_margins) == {"a": policy.floor_of("a", 0.1), "old": policy.floor_of("old")}


def test_a_suite_that_was_retired_is_said_to_be_measured_long_ago(own_margins) -> None:
    assert [last_measured(own_margins, name) for name in ("a", "old")] == ["", "last measured after round 1: a"]


def test_a_loss_of_three_points_is_marked_whatever_a_float_makes_of_it(own_margins) -> None:
    """0.67 - 0.70 is -0.0299999 as floats have it."""
    suites, rows = matrix_rows(own_margins, drift=False, sealed=False)
    cell = rows[2][1][[suite.name for suite in suites].index("a")]
    assert (cell.note, cell.kind) == ("−3.0", "lost")
