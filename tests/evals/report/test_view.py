"""What a report shows, before any template: effects in words, cells of the matrix, groups of checks and badges."""

from __future__ import annotations

import numpy as np
import pytest

from data_contracts.manifests import CheckOutcome, Decision
from evals.audit.forgetting import RoundEvaluation, audit_forgetting
from evals.audit.matrix import Estimate
from evals.gate.decide import GatePolicy, decide
from evals.report.view import (
    change_words,
    check_rows,
    effect_words,
    estimate_words,
    facts,
    group_checks,
    matrix_rows,
    noise_words,
    split_reasons,
    suite_curves,
    verdict_badge,
)

ACCEPTED = GatePolicy(accept_unmeasured=("general", "safety", "drift"))


def _check(check: str = "regression", subject: str = "old", **fields: object) -> CheckOutcome:
    return CheckOutcome.model_validate({"check": check, "subject": subject, "outcome": "pass", "sentence": "s", **fields})


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (_check(effect=-0.095, low=-0.121, high=-0.069, confidence=0.9), "−9.5 (90 %: −12.1 to −6.9)"),
        (_check(effect=0.0), "0.0"),
        (_check(), ""),
        (_check("drift", effect=-0.02, low=-0.03, high=-0.01, confidence=0.95), "−2.0 % (95 %: −3.0 to −1.0)"),
        (_check("drift_warning", effect=-0.0004, low=-0.0005, high=-0.0003, confidence=0.9), "−0.04 % (90 %: −0.05 to −0.03)"),
        (_check("early_warning", effect=-0.05), "−0.05 nats"),
    ],
)
def test_an_effect_in_words(check: CheckOutcome, words: str) -> None:
    assert effect_words(check) == words


def test_checks_are_grouped_as_a_reader_looks_for_them(evidence) -> None:
    verdict = decide(evidence(old=(60, 0), since={"older": 5}, drift=1.004), ACCEPTED)
    groups = group_checks(verdict)
    assert {check.subject for check in groups.suites} == {"old", "older", "piqa", "new", "text"}
    assert [check.check for check in groups.suites if check.subject == "old"] == ["regression"], "the floor says the same again"
    assert {check.subject for check in groups.pooled} >= {"earlier skills", "general suites"}
    assert {check.check for check in groups.anchored} == {"anchor"}
    together = [*groups.suites, *groups.pooled, *groups.anchored, *groups.warnings]
    left_out = [check for check in verdict.checks if check not in together]
    assert [(check.check, check.subject) for check in left_out] == [("floor", "old")]
    assert [row.badge[2] for row in check_rows(groups.warnings)] == ["flagged"] * len(groups.warnings)


def test_flags_are_shown_apart_from_the_reasons(evidence) -> None:
    verdict = decide(evidence(drift=1.004), ACCEPTED)
    reasons, flagged = split_reasons(verdict)
    assert len(reasons) + len(flagged) == len(verdict.reasons)
    assert flagged[0].startswith("general text became harder")
    assert not any(reason.startswith("Flagged") for reason in reasons)


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
    rows = dict(facts(decide(evidence(), ACCEPTED)))
    assert {"Candidate", "Champion", "Report read: candidate", "Report read: anchor of old"} <= rows.keys()
    assert rows["Attempt of this round"] == "1"
