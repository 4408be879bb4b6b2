"""Two looks: the levels against scipy's bivariate normal and against looks that are really taken."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from evals.sequential import chance_by_second, chance_of_neither, second_look_alpha

fractions = st.floats(0.01, 0.995)


def _both_below(first: float, second: float, fraction: float) -> float:
    rho = math.sqrt(fraction)
    return float(stats.multivariate_normal.cdf([first, second], cov=[[1.0, rho], [rho, 1.0]]))


@given(st.floats(-6, 6), st.floats(-6, 6), fractions)
def test_the_joint_chance_is_that_of_scipy(first: float, second: float, fraction: float) -> None:
    assert chance_of_neither(first, second, fraction) == pytest.approx(_both_below(first, second, fraction), abs=1e-10)


@given(st.floats(1e-6, 0.2), st.floats(0.05, 0.95), fractions)
def test_both_looks_together_spend_the_total(total: float, share: float, fraction: float) -> None:
    first = share * total
    second = second_look_alpha(total, first, fraction)
    spent = 1.0 - _both_below(stats.norm.isf(first), stats.norm.isf(second), fraction)
    assert spent == pytest.approx(total, abs=1e-9)
    assert total - first <= second + 1e-12
    assert second <= total
    assert second_look_alpha(total, first, fraction * 0.9) <= second + 1e-12, "less correlation is stricter"


@pytest.mark.parametrize(("first", "second"), [(400, 1000), (150, 600), (399, 400)])
def test_looks_that_are_really_taken_err_as_often_as_they_may(first: int, second: int) -> None:
    """Means of normal items, the second look's include the first's: how often one of two tests of a true hypothesis claims."""
    generator, draws = np.random.default_rng(0), 400_000
    before = generator.normal(0.0, math.sqrt(first), draws)
    after = before + generator.normal(0.0, math.sqrt(second - first), draws)
    level = second_look_alpha(0.05, 0.04, first / second)
    claims = (before / math.sqrt(first) >= stats.norm.isf(0.04)) | (after / math.sqrt(second) >= stats.norm.isf(level))
    assert claims.mean() == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / draws))


def test_the_chance_by_the_second_look_is_that_of_looks_that_are_taken() -> None:
    generator, draws, first, second, shift = np.random.default_rng(1), 400_000, 400, 1000, 0.09
    before = generator.normal(shift * first, math.sqrt(first), draws)
    after = before + generator.normal(shift * (second - first), math.sqrt(second - first), draws)
    claims = (before / math.sqrt(first) >= stats.norm.isf(0.04)) | (after / math.sqrt(second) >= stats.norm.isf(0.017))
    promised = chance_by_second((0.04, 0.017), (shift * math.sqrt(first), shift * math.sqrt(second)), first / second)
    assert claims.mean() == pytest.approx(promised, abs=0.004)


@pytest.mark.parametrize(
    ("total", "first", "fraction"),
    [(0.05, 0.05, 0.4), (0.05, 0.0, 0.4), (0.05, 0.04, 1.0), (0.05, 0.04, 0.0), (0.6, 0.1, 0.4), (0.05, 0.04, math.nan)],
)
def test_impossible_looks_are_refused(total: float, first: float, fraction: float) -> None:
    with pytest.raises(ValueError, match="expected 0 < first < total"):
        second_look_alpha(total, first, fraction)


@pytest.mark.parametrize("total", [1e-7, 1e-9, 1e-12, 1e-20])
def test_a_tiny_chance_is_never_spent_twice(total: float) -> None:
    """So many attempts that a float no longer shows the chance of both looks: the second has at most what the correlation allows."""
    first = 0.8 * total
    second = second_look_alpha(total, first, 0.25)
    assert total - first <= second * (1 + 1e-6)
    assert second < 0.3 * total
