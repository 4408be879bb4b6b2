"""The policy of rules 2, as stored verdicts hold it: its own keys and defaults, and none of those that came later."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from evals.gate.policy import GatePolicy as PolicyOfToday
from evals.gate.rules2.policy import GatePolicy


def test_a_stored_policy_is_read_back() -> None:
    policy = GatePolicy(alpha=0.025, required_suites=("piqa",), floors={"a": 0.1})
    stored = policy.model_dump(mode="json")
    assert stored["rules"] == 2
    assert GatePolicy.model_validate(stored) == policy


@pytest.mark.parametrize("later", [{"min_learned": 0.5}, {"min_scores": {}}, {"accept_unmeasured": []}, {"rules": 6}])
def test_what_came_later_is_not_a_key_of_rules_2(later: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        GatePolicy.model_validate(later)
    PolicyOfToday.model_validate(later)


def test_defaults_that_decided_stored_verdicts() -> None:
    policy = GatePolicy()
    assert (policy.min_gain, policy.floor, policy.anchor_budget, policy.min_items) == (0.0, 0.05, 0.03, 30)
    assert (policy.margin("safety"), policy.margin("drift")) == (0.01, policy.drift_limit)
    assert policy.level(2) == (0.05 / 4, 0.05 / 9)
    assert (policy.floor_of("a", 0.1), policy.budget_of(0.1), policy.drift_limits(0.05)) == (0.1, 0.1, (0.05, 0.05))
