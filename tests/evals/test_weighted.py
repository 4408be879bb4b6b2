"""Weighted estimates are right on average, their variance is that of repeated draws, and equal weights change nothing."""

from __future__ import annotations

import numpy as np
import pytest

from evals.drawing import inclusion_chances, item_sizes
from evals.statistics import effective_draws, p_above, paired_difference, pool, with_null_variance
from evals.weighted import largest_weight, pool_clusters, pool_rows, weighted_difference, weighted_draws

NOBODY = (None,) * 50


def test_an_estimate_by_hand() -> None:
    """Four of eight items with the weights 1, 1, 2, 4: the mean is (-1 + 2) / 8; the second moment is (1 + 4) / 8."""
    d, weight = np.array([-1.0, 0.0, 1.0, 0.0]), np.array([1.0, 1.0, 2.0, 4.0])
    found = weighted_difference(d, weight, (None,) * 4, 8, prior=False)
    assert (found.mean, found.n, found.degrees) == (1 / 8, 4, 3.0)
    assert found.variance == pytest.approx((5 / 8 - 1 / 64) * 8 / 7 / 8)
    assert largest_weight(weight, 8) == 4.0
    assert pool_rows(d, weight, 8).tolist() == [-1.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert pool_clusters(("a", "a", None, "b"), 6) == ("a", "a", None, "b", None, None)


def test_weights_are_scaled_so_that_a_change_is_the_difference_of_two_scores() -> None:
    before, after = np.array([1.0, 1.0, 0.0]), np.array([1.0, 0.0, 1.0])
    weight = np.array([3.0, 2.0, 1.5])
    found = weighted_difference(after - before, weight, (None,) * 3, 20)
    assert found.mean == pytest.approx(np.average(after, weights=weight) - np.average(before, weights=weight))


def test_the_mean_and_the_variance_are_those_of_repeated_draws() -> None:
    """2,000 pools of 400 items with losses where margins are large, 120 read: the mean is -0.05, and the variance is not too small. It is a
    little too large, because scaled weights vary less than it takes them to."""
    generator = np.random.default_rng(4)
    means, variances = [], []
    for _ in range(2000):
        margin = generator.exponential(1.0, 400)
        d = np.where(generator.random(400) < 0.1 * (margin > np.log(2.0)), -1.0, 0.0)
        sizes = item_sizes(margin)
        chance, numbers = inclusion_chances(sizes, 120), generator.random(400) / sizes
        read = numbers <= np.sort(numbers)[119]
        found = weighted_difference(d[read], 1.0 / chance[read], (None,) * 120, 400, prior=False)
        means.append(found.mean)
        variances.append(found.variance)
    assert np.mean(means) == pytest.approx(-0.05, abs=4 * np.std(means) / np.sqrt(2000))
    assert 0.93 < np.mean(variances) / np.var(means) < 1.3


def test_a_pool_that_was_read_as_a_whole_is_what_it_is_without_weights() -> None:
    d = np.random.default_rng(2).choice([-1.0, 0.0, 1.0], 50, p=[0.1, 0.8, 0.1])
    assert weighted_difference(d, np.ones(50), NOBODY, 50).mean == pytest.approx(d.mean())
    assert weighted_difference(d, np.ones(50), NOBODY, 50).variance == pytest.approx(paired_difference(d).variance)
    assert weighted_draws(d, np.ones(50), NOBODY, 50) == effective_draws(d)


def test_an_even_draw_of_a_pool_needs_the_variance_of_its_items() -> None:
    """50 items, each for 20 of a pool of 1,000: the variance is within a twentieth of that of 50 items."""
    d = np.random.default_rng(3).choice([-1.0, 0.0, 1.0], 50, p=[0.1, 0.8, 0.1])
    drawn, plain = weighted_difference(d, np.full(50, 20.0), NOBODY, 1000), paired_difference(d)
    assert drawn.mean == pytest.approx(plain.mean)
    assert drawn.variance == pytest.approx(plain.variance, rel=0.05)


def test_no_change_among_few_heavy_items_rules_nothing_out() -> None:
    """40 of 1,000 items without a change: a loss of 2 points of items that weigh 25 would have been seen in 1 - 0.98^40 = 55 % of draws."""
    rows = pool_rows(np.zeros(40), np.full(40, 25.0), 1000)
    plain = weighted_difference(np.zeros(40), np.full(40, 25.0), (None,) * 40, 1000)
    null = with_null_variance(pool([plain]), [rows], [None], 0.02, draws=[1000.0], largest=25.0)
    assert null.variance == pytest.approx((0.02 * 25 - 0.02**2) / 1000)  # all of the loss on items of that weight
    assert p_above(null, -0.02) > 0.15


def test_passages_count_for_what_they_are_worth() -> None:
    """30 passages of 4 items that change together, each for 5 of 600: as many draws as if there were 150 passages."""
    d = np.repeat(np.random.default_rng(6).choice([-1.0, 0.0, 1.0], 30, p=[0.3, 0.4, 0.3]), 4)
    names = [str(index // 4) for index in range(120)]
    assert weighted_draws(d, np.full(120, 5.0), names, 600) == pytest.approx(150, rel=0.05)
    together = weighted_difference(d, np.full(120, 5.0), names, 600, prior=False)
    apart = weighted_difference(d, np.full(120, 5.0), (None,) * 120, 600, prior=False)
    assert together.variance == pytest.approx(4 * apart.variance, rel=0.05)
    assert together.degrees == 29
