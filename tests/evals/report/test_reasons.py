"""A verdict's sentences by group: one line a kind of suite, every sentence below it once, the headline and the flags apart."""

from __future__ import annotations

import pytest

from data_contracts.manifests import Verdict
from evals.gate.decide import GateEvidence, GatePolicy, decide
from evals.report.reasons import group_reasons, split_reasons

CATEGORIES = {"old": "skill", "older": "skill", "new": "skill", "piqa": "general", "text": "drift"}


@pytest.fixture
def judged(evidence):
    def build(**changes: object) -> Verdict:
        return decide(evidence(**changes), GatePolicy(accept_unmeasured=("general", "safety", "drift")))

    return build


def test_a_blocked_round_says_a_line_per_kind_and_holds_every_sentence(judged) -> None:
    verdict = judged(old=(60, 2), older=(90, 2), piqa=(50, 0))
    groups = group_reasons(verdict, CATEGORIES)
    lines = {group.title: group.summary for group in groups}
    assert lines["Earlier skills"].startswith("2 of 2 suites lost: older −22.0, old −14.5; on average −")
    assert lines["General abilities"].startswith("1 of 1 suite lost: piqa −12.5")
    assert lines["New skill"] == "new learned, +50.0 points"
    said = {sentence for group in groups for sentence in group.sentences}
    proven = {check.subject for check in verdict.checks if check.check == "regression" and check.outcome == "block"}
    assert said == {check.sentence for check in verdict.checks if not (check.check == "floor" and check.subject in proven)}
    assert "This is a real loss, not noise." in groups[0].sentences[0] or "beyond the margin" in groups[0].sentences[0]


def test_the_headline_is_said_once_and_notes_are_what_no_group_says(judged) -> None:
    verdict = judged(old=(60, 2))
    headline, notes, flagged = split_reasons(verdict)
    assert (verdict.reasons[0], headline[0]) == (f"Blocked: l{headline[1:]}", "L")
    assert not {check.sentence for check in verdict.checks} & set(notes)
    assert any(note.startswith("Minimum detectable effect") for note in notes)
    assert set(verdict.reasons[1:]) <= {*notes, *(f"Flagged: {each}" for each in flagged), *(check.sentence for check in verdict.checks)}


def test_flags_are_shown_apart_from_the_reasons(judged) -> None:
    verdict = judged(drift=1.004)
    _, notes, flagged = split_reasons(verdict)
    assert flagged[0].startswith("general text became harder")
    assert not any(note.startswith("Flagged") for note in notes)


def test_a_held_round_names_what_is_not_shown(judged) -> None:
    verdict = judged(old=(40, 40), older=(40, 40))
    lines = {group.title: group.summary for group in group_reasons(verdict, CATEGORIES)}
    assert lines["Earlier skills"] == "no loss proven on 2 suites; on average 0.0 points, and a loss of 2.0 points is not ruled out"
    assert lines["Safety"] == "not measured, and accepted"


def test_text_that_became_harder_within_its_limit_is_not_said_to_be_without_a_proven_loss(judged) -> None:
    """A rise of 0.4 % that is beyond noise passes, because a rise of 1 % is ruled out: the page flags it, and must not deny it."""
    lines = {group.title: group.summary for group in group_reasons(judged(drift=1.004), CATEGORIES)}
    assert lines["General text"] == "a rise beyond the limit is ruled out on 1 suite; beyond noise: text +0.4 %"
    quiet = {group.title: group.summary for group in group_reasons(judged(), CATEGORIES)}
    assert quiet["General text"] == "a rise beyond the limit is ruled out on 1 suite"


def test_a_badge_that_comes_from_all_rounds_together_is_explained(judged) -> None:
    """No suite is proven to have lost more than its budget and the mean over all rounds is: the line must not say that all is well."""
    verdict = judged(since={"old": 10, "older": 10})
    [check] = [each for each in verdict.checks if each.check == "anchor" and each.subject == "earlier skills"]
    assert check.outcome == "inconclusive"
    lines = {group.title: group.summary for group in group_reasons(verdict, CATEGORIES)}
    assert lines["Earlier skills"].endswith("; over all rounds −2.5 points, and a loss of 3.0 points is not ruled out")
    verdict = judged(since={"old": 30, "older": 30})
    lines = {group.title: group.summary for group in group_reasons(verdict, CATEGORIES)}
    assert "lost: old −7.5 over all rounds" in lines["Earlier skills"]
    assert lines["Earlier skills"].endswith("on average 0.0 points; over all rounds −7.5 points")


def test_suites_of_too_few_items_are_not_said_to_be_without_a_proven_loss(make_suite, make_evaluation) -> None:
    model = make_evaluation("m", make_suite("old", [1.0, 0.0] * 200), make_suite("safe", [1.0] * 12, category="safety"))
    policy = GatePolicy(accept_unmeasured=("general", "drift"))
    verdict = decide(GateEvidence(model, model, {"old": model, "safe": model}, None), policy)
    lines = {group.title: group.summary for group in group_reasons(verdict, {"old": "skill", "safe": "safety"})}
    assert lines["Safety"] == "no suite can show that nothing was lost"
