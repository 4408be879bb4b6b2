"""View 7: chances are the gate's own plan, and the gate's own decisions agree with them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from data_contracts.errors import ConfigError
from data_contracts.manifests import Decision
from evals.gate.plan import plan_round
from flows.explore.views.playground import Question, chance_to_promote, promote_figure, sentences, simulate

QUESTION = Question(items=400, suites=3, margin=0.02, churn=0.05)


def test_no_loss_is_the_plans_chance() -> None:
    plan = plan_round(QUESTION.policy, {"skill": 3}, 400, 0.05)
    assert chance_to_promote(QUESTION, 0.0) == pytest.approx(plan.chance_all_shown)
    assert f"{plan.categories[0].items_needed:,}" in sentences(QUESTION, 0.02)[2]


def test_more_loss_less_chance_and_alpha_at_the_margin() -> None:
    chances = [chance_to_promote(QUESTION, loss / 1000) for loss in range(0, 60, 2)]
    assert chances == sorted(chances, reverse=True)
    assert chance_to_promote(QUESTION, QUESTION.margin) <= 0.055


def test_the_gate_itself_agrees() -> None:
    """Forty decisions: what the model says must lie in the 99.9 % interval around what the gate did."""
    for loss in (0.0, 0.02):
        found = simulate(QUESTION, loss, rounds=40, seed=1)
        assert found.rounds == 40
        expected = chance_to_promote(QUESTION, loss)
        spread = 3.3 * (max(expected * (1 - expected), 0.02) / 40) ** 0.5
        assert abs(found.promoted - expected) <= spread
    assert simulate(QUESTION, 0.0, rounds=3, seed=2) == simulate(QUESTION, 0.0, rounds=3, seed=2)
    assert simulate(QUESTION, 0.2, rounds=2).counts[Decision.BLOCK] == 2


def test_a_loss_within_the_margin_that_is_proven_does_not_promote() -> None:
    """Many items rule a loss of 2 points out where 1.5 are lost, and prove that something was lost: the gate blocks."""
    many = Question(items=3000, suites=4, margin=0.02, churn=0.05)
    assert chance_to_promote(many, 0.015) < 0.02
    assert simulate(many, 0.015, rounds=3).counts[Decision.BLOCK] == 3


@pytest.mark.parametrize(("items", "suites", "loss"), [(400, 1, 0.01), (400, 5, 0.01), (400, 3, 0.002), (1000, 3, 0.005)])
def test_the_chance_is_that_of_the_gates_rules(items: int, suites: int, loss: float) -> None:
    """4,000 rounds by the rules written out here: the score test of one paired proportion (Tango 1998), McNemar with Holm, the floor."""
    margin, churn, rounds = 0.02, 0.05, 4000
    changes = np.random.default_rng(5).multinomial(items, [churn / 2 + loss, churn / 2, 1 - churn - loss], size=(rounds, suites))
    lost, won = changes[..., 0], changes[..., 1]
    smallest = stats.binom.sf(lost - 1, lost + won, 0.5).min(axis=1)
    blocked = (smallest <= 0.05 / suites) | ((lost - won) / items >= 0.05 - 1e-12).any(axis=1)
    n, worse, better = items * suites, lost.sum(axis=1), won.sum(axis=1)
    low, high = np.zeros(rounds), np.full(rounds, (1 - margin) / 2)  # the likeliest chance to win if that to lose is larger by the margin
    for _ in range(60):
        win = (low + high) / 2
        more = worse / (win + margin) + better / win > 2 * (n - worse - better) / (1 - 2 * win - margin)
        low, high = np.where(more, win, low), np.where(more, high, win)
    z = ((better - worse) / n + margin) / np.sqrt((2 * win + margin - margin**2) / n)
    promoted = float(((z >= stats.norm.isf(0.05)) & ~blocked).mean())
    assert chance_to_promote(Question(items, suites, margin, churn), loss) == pytest.approx(promoted, abs=0.04)


def test_edges() -> None:
    still = Question(items=400, suites=1, margin=0.02, churn=0.0)
    assert 0.0 < chance_to_promote(still, 0.0) <= 1.0
    assert len(promote_figure(still, 0.0).data[0].x) == 61
    with pytest.raises(ConfigError):
        chance_to_promote(Question(items=1, suites=1, margin=0.02, churn=0.1), 0.0)
