"""The policy is a contract: known keys, sane numbers, one round trip."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from evals.gate.policy import GatePolicy


def test_margins_by_category() -> None:
    policy = GatePolicy()
    assert policy.margin("safety") < policy.margin("skill") == policy.margin("general") < policy.floor
    assert policy.margin("drift") == policy.drift_limit


def test_a_suite_may_have_its_own_floor() -> None:
    policy = GatePolicy(floors={"gsm8k": 0.08})
    assert policy.floor_of("gsm8k") == 0.08
    assert policy.floor_of("other") == policy.floor


@pytest.mark.parametrize(
    "wrong",
    [
        {"alhpa": 0.05},
        {"alpha": 0.0},
        {"alpha": 0.6},
        {"margin_skill": -0.01},
        {"power": 1.0},
        {"floor": float("nan")},
        {"floors": {"x": float("nan")}},
        {"min_scores": {"x": 2.0}},
    ],
)
def test_nonsense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        GatePolicy.model_validate(wrong)


def test_every_field_says_what_it_is() -> None:
    assert all(field.description for field in GatePolicy.model_fields.values())


def test_round_trip_through_the_verdict() -> None:
    policy = GatePolicy(alpha=0.025, required_suites=("piqa",), floors={"a": 0.1})
    assert GatePolicy.model_validate(policy.model_dump(mode="json")) == policy


@pytest.mark.parametrize("wrong", [{"floors": {"x": float("nan")}}, {"min_scores": {"x": 2.0}}, {"accept_unmeasured": ["everything"]}])
def test_nonsense_inside_a_setting_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        GatePolicy.model_validate(wrong)


def test_the_score_asked_for_lies_between_guessing_and_all_right() -> None:
    policy = GatePolicy(min_scores={"poems": 0.2})
    assert policy.target_of("tickets", 0.25) == 0.625
    assert policy.target_of("poems", 0.0) == 0.2
