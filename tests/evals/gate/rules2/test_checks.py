"""The checks of rules 2 on pairs: their outcomes at the limits, in the words of stored verdicts."""

from __future__ import annotations

import numpy as np
import pytest

from evals.gate.pairing import Pair, pair_suite
from evals.gate.rules2.checks import non_inferiority, regressions
from evals.gate.rules2.policy import GatePolicy

RIGHT = np.r_[np.ones(300), np.zeros(100)]
POLICY = GatePolicy()


@pytest.fixture
def pair(make_suite, flip):
    def made(name: str, lost: int, won: int, score: np.ndarray = RIGHT) -> Pair:
        return pair_suite(make_suite(name, flip(score, lost, won)), make_suite(name, score), "r")

    return made


@pytest.mark.parametrize(("lost", "won", "outcome"), [(2, 2, "pass"), (60, 60, "inconclusive"), (40, 0, "block")])
def test_the_mean_of_a_category(pair, lost: int, won: int, outcome: str) -> None:
    check = non_inferiority("skill", [pair("a", lost, won), pair("b", lost, won)], POLICY.margin_skill, POLICY.level(1), POLICY, "champion")
    assert (check.subject, check.outcome) == ("earlier skills", outcome)
    assert ("items a suite would decide it" in check.sentence) is (outcome == "inconclusive")


def test_no_suite_that_can_show_anything_is_inconclusive(pair) -> None:
    check = non_inferiority("skill", [pair("a", 1, 1, np.ones(20))], POLICY.margin_skill, POLICY.level(1), POLICY, "champion")
    assert check.outcome == "inconclusive"
    assert check.n is None


def test_a_loss_beyond_the_floor_is_named_twice_and_few_items_decide_nothing(pair) -> None:
    found = regressions([pair("a", 40, 0), pair("b", 1, 1), pair("few", 12, 0, np.ones(12))], POLICY, "champion")
    assert [(check.check, check.subject, check.outcome) for check in found] == [
        ("regression", "a", "block"),
        ("floor", "a", "block"),
        ("regression", "b", "pass"),
        ("regression", "few", "n/a"),
    ]
