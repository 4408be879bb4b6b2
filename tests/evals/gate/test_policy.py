"""The policy is a contract: known keys, sane numbers, one round trip."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from evals.gate.policy import FIRST_SHARE, LATER_SHARE, GatePolicy, Sizes
from evals.sequential import chance_of_neither, second_look_alpha


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


# ------------------------------------------------------------------------------------------------ the gate's levels


def test_all_attempts_there_may_ever_be_spend_a_fifth_more_than_the_first() -> None:
    policy = GatePolicy()
    spent = [policy.attempt_alpha(attempt) for attempt in range(1, 5000)]
    assert spent == sorted(spent, reverse=True)
    assert sum(spent) < (1 + LATER_SHARE) * policy.alpha
    assert (1 + LATER_SHARE) * policy.alpha == pytest.approx(0.06)
    assert policy.attempt_alpha(10**9) > 0.0


def test_one_look_spends_all_and_two_share_it() -> None:
    policy = GatePolicy()
    assert policy.level(1) == policy.level(1, [Sizes(400, 400, 400)]) == (0.05, policy.attempt_alpha(2))
    first = policy.level(1, [Sizes(400, 1000, 400)])
    second = policy.level(1, [Sizes(400, 1000, 1000)])
    assert first.alpha == pytest.approx(FIRST_SHARE * 0.05)
    assert first.again == second.alpha == pytest.approx(second_look_alpha(0.05, 0.04, 0.4))
    assert second.again == policy.attempt_alpha(2)


@given(st.lists(st.tuples(st.integers(30, 2000), st.integers(1, 8)), min_size=1, max_size=6), st.integers(1, 5))
def test_suites_that_grow_unlike_never_loosen_the_second_look(grown: list[tuple[int, int]], attempt: int) -> None:
    """The correlation of the two looks is at least what is assumed, whatever the suites' variances are."""
    policy = GatePolicy(second_look=8)
    sizes = [Sizes(n, n * factor, n * factor) for n, factor in grown]
    level, total = policy.level(attempt, sizes), policy.attempt_alpha(attempt)
    if all(factor == 1 for _, factor in grown):
        assert level.alpha == total
        return
    generator = np.random.default_rng(len(grown))
    spread = generator.uniform(0.01, 1.0, len(grown))
    before = sum(v / size.first for v, size in zip(spread, sizes, strict=True))
    after = sum(v / size.now for v, size in zip(spread, sizes, strict=True))
    bounds = (float(stats.norm.isf(alpha)) for alpha in (FIRST_SHARE * total, level.alpha))
    bounds = (float(stats.norm.isf(alpha)) for alpha in (FIRST_SHARE * total, level.alpha))
    union = 1.0 - chance_of_neither(*bounds, min(after / before, 0.9999))
    assert union <= total + 1e-9


def test_the_second_look_is_fixed_by_what_there_is() -> None:
    policy = GatePolicy(second_look=2.5)
    assert [policy.planned_items(400, available) for available in (None, 100, 400, 700, 5000)] == [400, 400, 400, 700, 1000]
    assert GatePolicy(second_look=1).planned_items(400, 5000) == 400
