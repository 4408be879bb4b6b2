"""Non-inferiority, regression and floors on paired items, with margins of the policy and of a suite."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from data_contracts.manifests import Decision
from evals.gate.decide import GateEvidence, decide, items_wanted

RIGHT = np.r_[np.ones(300), np.zeros(100)]


@pytest.mark.parametrize(
    ("items", "lost", "outcome"),
    [(29, 29, "block"), (12, 5, "block"), (12, 1, "inconclusive"), (12, 0, "n/a")],
)
def test_the_floor_holds_for_small_suites(make_suite, make_evaluation, flip, items: int, lost: int, outcome: str, asked, checks_of) -> None:
    score = np.ones(items)
    champion = make_evaluation("champion", make_suite("topic", score), make_suite("real", RIGHT))
    candidate = make_evaluation("candidate", make_suite("topic", flip(score, lost=lost)), make_suite("real", RIGHT))
    verdict = decide(GateEvidence(candidate, champion, dict.fromkeys(("topic", "real"), champion), None), asked())
    [check] = checks_of(verdict, "regression", "topic")
    assert check.outcome == outcome
    if lost:
        assert check.p_value == pytest.approx(stats.binomtest(lost, lost, 0.5, alternative="greater").pvalue)
    assert (verdict.lost == ("topic",)) is (outcome == "block")
    assert "on 2 suites" not in verdict.reasons[0], "a suite of few items is not one on which nothing was lost"


def test_more_items_are_not_asked_for_where_they_would_not_help(evidence, asked) -> None:
    """A mean loss of about the margin: no number of items rules it out."""
    verdict = decide(evidence(old=(48, 40), older=(48, 40)), asked())
    assert verdict.decision is Decision.INCONCLUSIVE
    reasons = " ".join(verdict.reasons)
    assert "more items are not expected to change that" in reasons
    assert "valuate more items" not in reasons


def test_a_wide_margin_lets_pass_what_the_policy_blocks(evidence, asked, checks_of) -> None:
    assert decide(evidence(old=(24, 2)), asked()).lost == ("old",)
    verdict = decide(evidence(old=(24, 2), margins={"old": 0.1}), asked())
    assert verdict.decision is Decision.PASS
    [own] = checks_of(verdict, "margin", "old")
    assert (own.outcome, own.margin) == ("pass", 0.1)
    [loss] = checks_of(verdict, "regression", "old")
    assert "within its own margin of 10.0 points" in loss.sentence
    assert verdict.reasons[0] == "Pass: old lost something within its own margin; no other loss is proven on 3 suites and new was learned."
    assert own.sentence in verdict.reasons, "a release owner sees that the suite was held to something else"


@pytest.mark.parametrize(("lost", "decision"), [(36, Decision.INCONCLUSIVE), (48, Decision.BLOCK)])
def test_a_wide_margin_is_a_limit_too(evidence, lost: int, decision: Decision, asked) -> None:
    verdict = decide(evidence(old=(lost, 0), margins={"old": 0.1}), asked())
    assert verdict.decision is decision
    assert (verdict.lost == ("old",)) is (decision is Decision.BLOCK)


def test_a_narrow_margin_holds_what_the_policy_promotes(evidence, asked, checks_of) -> None:
    assert decide(evidence(old=(4, 2), older=(1, 1)), asked()).decision is Decision.PASS
    held = evidence(old=(4, 2), older=(1, 1), margins={"old": 0.01})
    verdict = decide(held, asked())
    assert verdict.decision is Decision.INCONCLUSIVE
    [own] = checks_of(verdict, "margin", "old")
    assert own.items_needed is not None
    assert items_wanted(verdict, held.candidate) == {}, "there are no more items"
    suites = held.candidate.suites
    more = {name: replace(suite, result=suite.result.model_copy(update={"available": 1000})) for name, suite in suites.items()}
    assert items_wanted(verdict, replace(held.candidate, suites=more)) == {"old": 1000}, "the others are shown already"


def test_leniency_is_not_lent_to_other_suites(evidence, asked, checks_of) -> None:
    """`older` is asked for two points alone, and not for the mean of two and ten."""
    verdict = decide(evidence(old=(0, 0), older=(10, 4), margins={"old": 0.1}), asked())
    [skills] = checks_of(verdict, "non_inferiority", "earlier skills")
    assert (skills.outcome, skills.n, skills.margin) == ("inconclusive", 400, 0.02)


def test_a_category_of_own_margins_only_is_asked_suite_by_suite(evidence, asked, checks_of) -> None:
    verdict = decide(evidence(margins={"old": 0.05, "older": 0.05}), asked())
    assert verdict.decision is Decision.PASS
    assert not checks_of(verdict, "non_inferiority", "earlier skills")
    assert [checks_of(verdict, "margin", name)[0].outcome for name in ("old", "older")] == ["pass", "pass"]


def test_a_floor_that_is_named_for_a_suite_stands_beside_its_margin(evidence, asked) -> None:
    policy = asked(floors={"old": 0.05})
    assert decide(evidence(old=(22, 0), margins={"old": 0.1}), policy).lost == ("old",)
    assert policy.floor_of("other", 0.1) == 0.1
    assert policy.floor_of("other", 0.01) == policy.floor, "a narrow margin does not make noise a block"


def test_the_margin_of_the_new_skill_counts_from_the_next_round_on(evidence, asked) -> None:
    plain = evidence()
    suites = {**plain.candidate.suites}
    suites["new"] = replace(suites["new"], result=suites["new"].result.model_copy(update={"margin": 0.001}))
    assert decide(replace(plain, candidate=replace(plain.candidate, suites=suites)), asked()).decision is Decision.PASS


def test_over_all_rounds_a_suite_may_lose_its_margin_once(evidence, asked, checks_of) -> None:
    lost_before = evidence(old=(3, 3), since={"old": 18}, margins={"old": 0.1})
    assert decide(lost_before, asked()).decision is Decision.PASS
    spent = decide(evidence(old=(3, 3), since={"old": 60}, margins={"old": 0.1}), asked())
    assert spent.lost == ("old",)
    assert {check.margin for check in checks_of(spent, "anchor", "old")} == {0.1}


def test_a_suite_of_few_items_cannot_keep_its_own_margin(make_suite, make_evaluation, asked) -> None:
    score = np.tile([1.0, 1.0, 0.0], 8)
    champion = make_evaluation("champion", make_suite("tiny", score), make_suite("real", np.ones(400)))
    candidate = make_evaluation("candidate", make_suite("tiny", score, margin=0.1), make_suite("real", np.ones(400)))
    verdict = decide(GateEvidence(candidate, champion, dict.fromkeys(("tiny", "real"), champion), None), asked())
    assert verdict.decision is Decision.INCONCLUSIVE
    assert "it has 24 items, fewer than 30" in verdict.reasons[1]


def test_a_large_drop_blocks_whatever_its_p_value(evidence, make_suite, make_evaluation, flip, asked, checks_of) -> None:
    score = np.tile([1.0, 0.0], 20)
    champion = make_evaluation("champion", make_suite("small", score))
    candidate = make_evaluation("candidate", make_suite("small", flip(score, lost=5, won=3)))
    verdict = decide(GateEvidence(candidate, champion, {"small": champion}, None), asked())
    assert checks_of(verdict, "regression", "small")[0].outcome == "pass"
    assert checks_of(verdict, "floor", "small")[0].outcome == "block"
    assert verdict.decision is Decision.BLOCK
    assert verdict.lost == ("small",)


def test_a_floor_is_reached_at_exactly_five_points(evidence, asked, checks_of) -> None:
    assert checks_of(decide(evidence(old=(20, 0)), asked()), "floor", "old")
    assert not checks_of(decide(evidence(old=(19, 0)), asked()), "floor", "old")


def test_graded_scores_that_share_passages(make_suite, make_evaluation, asked) -> None:
    """Half a point lost on every item of every passage: exact tests do not apply, and the loss is found all the same."""
    cluster = [f"passage {index // 4}" for index in range(200)]
    before = np.random.default_rng(0).uniform(0.5, 0.9, 200)
    champion = make_evaluation("champion", make_suite("f1", before, cluster=cluster))
    candidate = make_evaluation("candidate", make_suite("f1", before - np.linspace(0.02, 0.06, 200), cluster=cluster))
    verdict = decide(GateEvidence(candidate, champion, {"f1": champion}, None), asked())
    assert verdict.decision is Decision.BLOCK
    assert verdict.lost == ("f1",)
