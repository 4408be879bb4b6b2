"""View 7: chances are the gate's own plan, and the gate's own decisions agree with them."""

from __future__ import annotations

import pytest

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


def test_edges() -> None:
    still = Question(items=400, suites=1, margin=0.02, churn=0.0)
    assert 0.0 < chance_to_promote(still, 0.0) <= 1.0
    assert len(promote_figure(still, 0.0).data[0].x) == 61
    with pytest.raises(ConfigError):
        chance_to_promote(Question(items=1, suites=1, margin=0.02, churn=0.1), 0.0)
