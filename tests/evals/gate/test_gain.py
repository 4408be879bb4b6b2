"""A proven gain is not yet a skill: targets, guessing and the words for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from data_contracts.manifests import Decision, Verdict
from evals.gate.decide import GateEvidence, decide
from evals.gate.pairing import why_uninformative


@pytest.fixture
def first_round(make_suite, make_evaluation, asked) -> Callable[..., Verdict]:
    """A first round whose skill goes from `before` to `after` on n items; with `classes`, as many equally common answers."""

    def judged(before: float, after: float, *, n: int = 200, classes: int = 0, **fields: object) -> Verdict:
        gold = [f"class {index % classes}" for index in range(n)] if classes else None
        scores = [np.r_[np.ones(round(share * n)), np.zeros(n - round(share * n))] for share in (before, after)]
        base, candidate = (
            make_evaluation(name, make_suite("tickets", score, gold=gold)) for name, score in zip(("base", "m1"), scores, strict=True)
        )
        return decide(GateEvidence(candidate, base, {}, "tickets", bootstrap=True), asked(**fields))

    return judged


@pytest.mark.parametrize(
    ("before", "after", "classes", "decision"),
    [
        (0.0, 0.22, 0, Decision.INCONCLUSIVE),  # significant and of no use
        (0.011, 0.089, 8, Decision.INCONCLUSIVE),  # below guessing
        (0.0, 0.56, 8, Decision.INCONCLUSIVE),  # half way from 12.5 to 100 is 56.25
        (0.0, 0.57, 8, Decision.PASS),
        (0.5, 0.74, 2, Decision.INCONCLUSIVE),
        (0.5, 0.76, 2, Decision.PASS),
        (0.9, 0.93, 8, Decision.INCONCLUSIVE),  # good before, and the gain is below the least useful one
        (0.3, 0.3, 8, Decision.BLOCK),
        (0.6, 0.5, 8, Decision.BLOCK),
    ],
)
def test_significance_is_not_use(first_round, before: float, after: float, classes: int, decision: Decision) -> None:
    assert first_round(before, after, classes=classes).decision is decision


def test_a_skill_may_have_a_target_of_its_own(first_round) -> None:
    poems = {"min_scores": {"tickets": 0.2}}
    assert first_round(0.0, 0.22, **poems).decision is Decision.PASS
    strict = first_round(0.0, 0.9, min_scores={"tickets": 0.95})
    assert strict.decision is Decision.INCONCLUSIVE
    assert "gate.min_scores asks for 95.0" in " ".join(strict.reasons)


def test_a_pass_says_how_good_the_skill_is_against_guessing(first_round) -> None:
    reasons = " ".join(first_round(0.1, 0.9, classes=8).reasons)
    assert "always giving the commonest answer would score 12.5, so this is 89 % of the way from chance to a perfect score" in reasons


def test_a_suite_with_one_answer_teaches_nobody_anything(first_round) -> None:
    verdict = first_round(0.0, 0.99, classes=1)
    assert verdict.decision is Decision.INCONCLUSIVE
    assert "every item has the same answer" in " ".join(verdict.reasons)


def test_so_many_items_decide_it_and_none_are_named_where_they_would_not(first_round) -> None:
    """A gain of 4 points that is not proven: more items would prove it, and that it is below the 5 points that are asked for."""
    [small] = [check for check in first_round(0.86, 0.90, n=50, classes=8).checks if check.check == "gain"]
    assert (small.outcome, small.items_needed) == ("inconclusive", None)
    assert "would decide it" not in small.sentence
    [gain] = [check for check in first_round(0.80, 0.88, n=50, classes=8).checks if check.check == "gain"]
    assert gain.items_needed is not None
    n = gain.items_needed
    assert f"about {n:,} items would decide it" in gain.sentence
    after = first_round(0.80, 0.88, n=n, classes=8)
    assert after.decision is Decision.PASS, "with so many items and the same share of changes"
    assert first_round(0.80, 0.88, n=n // 8, classes=8).decision is Decision.INCONCLUSIVE


def test_golds_that_differ_in_their_reasoning_are_one_answer(make_suite, make_evaluation, asked) -> None:
    """Always "#### yes" where 55 % of the answers are yes is guessing, however different the golds are as texts."""
    truth = ["yes"] * 110 + ["no"] * 90
    gold = [f"because of {number}: #### {answer}" for number, answer in enumerate(truth)]
    base = make_suite("tickets", np.zeros(200), gold=gold)
    after = make_suite("tickets", np.r_[np.ones(110), np.zeros(90)], gold=gold, prediction=["so #### yes"] * 200)

    def judged(**compared: object) -> Verdict:
        models = [make_evaluation(name, replace(suite, **compared)) for name, suite in (("m1", after), ("base", base))]
        return decide(GateEvidence(models[0], models[1], {}, "tickets", bootstrap=True), asked())

    verdict = judged(compared_gold=tuple(truth), compared_answer=("yes",) * 200)
    assert verdict.decision is Decision.INCONCLUSIVE
    assert "the commonest answer would score 55.0" in " ".join(verdict.reasons)


def test_a_reference_that_always_gives_one_answer_shows_nothing(make_suite) -> None:
    truth = ("yes",) * 110 + ("no",) * 90
    said = [f"thought {number} #### yes" for number in range(200)]
    gold = [f"{number} #### {each}" for number, each in enumerate(truth)]
    reference = make_suite("old", np.r_[np.ones(110), np.zeros(90)], gold=gold, prediction=said)
    assert why_uninformative(reference, 0.05, rules=6) is None, "as texts they are all different"
    told = why_uninformative(replace(reference, compared_gold=truth, compared_answer=("yes",) * 200), 0.05, rules=6)
    assert told == "the reference answers 'yes' to every item"
