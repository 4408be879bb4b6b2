"""The arithmetic against statsmodels, scipy and enumeration, and the promises that a pseudo-count makes."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from evals.statistics import (
    Difference,
    bootstrap_means,
    effective_draws,
    holm,
    interval,
    items_needed,
    mcnemar_p,
    minimum_detectable_effect,
    not_below_null_variance,
    null_item_variance,
    p_above,
    p_below,
    paired_difference,
    percentile_interval,
    pool,
    with_null_variance,
)


def _suites(seed: int) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.choice([-1.0, 0.0, 1.0], p=[0.1, 0.84, 0.06], size=n) for n in (80, 200, 333)]


@pytest.mark.parametrize("seed", range(5))
def test_pooled_variance_is_that_of_ols_with_hc2(seed: int) -> None:
    suites = _suites(seed)
    frame = pd.DataFrame({"d": np.concatenate(suites), "suite": np.repeat(["a", "b", "c"], [len(d) for d in suites])})
    fit = smf.ols("d ~ 0 + suite", frame).fit(cov_type="HC2")
    pooled = pool([paired_difference(d, prior=False) for d in suites])
    contrast = np.full(3, 1 / 3)
    assert pooled.mean == pytest.approx(float(contrast @ fit.params), abs=1e-12)
    assert pooled.variance == pytest.approx(float(contrast @ fit.cov_params().to_numpy() @ contrast), rel=1e-10)


def test_one_suite_is_a_paired_t_test() -> None:
    d = np.random.default_rng(0).normal(-0.05, 0.4, 90)
    expected = stats.ttest_1samp(d, -0.02, alternative="greater")
    assert p_above(paired_difference(d, prior=False), -0.02) == pytest.approx(float(expected.pvalue), rel=1e-10)
    low, high = interval(paired_difference(d, prior=False), 0.05)
    assert (low, high) == pytest.approx(tuple(stats.ttest_1samp(d, 0).confidence_interval(0.9)), rel=1e-10)


def test_items_that_share_a_passage_count_once() -> None:
    d = np.random.default_rng(1).choice([-1.0, 0.0, 1.0], size=60)
    alone = paired_difference(d, prior=False)
    copied = paired_difference(np.repeat(d, 5), [f"passage {index // 5}" for index in range(300)], prior=False)
    naive = paired_difference(np.repeat(d, 5), prior=False)
    assert copied.mean == pytest.approx(alone.mean)
    assert copied.variance == pytest.approx(alone.variance, rel=1e-9)
    assert naive.variance < alone.variance / 4


def test_items_without_a_passage_are_their_own() -> None:
    d = np.random.default_rng(2).normal(size=40)
    assert paired_difference(d, [None] * 40) == paired_difference(d)


def test_unchanged_items_claim_less_the_fewer_they_are() -> None:
    errors = [paired_difference(np.zeros(n)).standard_error for n in (30, 100, 400, 1000)]
    assert errors == sorted(errors, reverse=True)
    assert not p_above(paired_difference(np.zeros(30)), -0.02) <= 0.05
    assert p_above(paired_difference(np.zeros(400)), -0.02) <= 0.05


@pytest.mark.parametrize("n", [100, 200, 400])
def test_pure_loss_at_the_margin_is_seldom_ruled_out(n: int) -> None:
    """The worst case for a normal approximation: items are only ever lost. Enumerated over the binomial, not simulated."""
    margin, shown = 0.02, 0.0
    for lost in range(n + 1):
        d = np.r_[-np.ones(lost), np.zeros(n - lost)]
        difference = not_below_null_variance(paired_difference(d), [n], margin)
        if p_above(difference, -margin) <= 0.05:
            shown += float(stats.binom.pmf(lost, n, margin))
    assert shown <= 0.06


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=2, max_size=60))
def test_bounds_and_tests_agree(values: list[float]) -> None:
    """The interval's ends are exactly where the one-sided tests turn."""
    difference = paired_difference(np.array(values))
    low, high = interval(difference, 0.05)
    assert p_above(difference, low) == pytest.approx(0.05, abs=1e-6)
    assert p_below(difference, high) == pytest.approx(0.05, abs=1e-6)


def test_one_item_shows_nothing() -> None:
    difference = paired_difference(np.array([1.0]))
    assert difference.variance == math.inf
    assert p_above(difference, -0.02) >= 0.5


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (5, 0), (9, 3), (3, 9), (40, 31)])
def test_mcnemar_is_half_of_the_two_sided_exact_test(lost: int, won: int) -> None:
    one_sided = float(mcnemar_p(lost, won))
    if lost > won:
        assert 2 * one_sided == pytest.approx(mcnemar([[0, lost], [won, 0]], exact=True).pvalue, rel=1e-9)
    else:
        assert one_sided >= 0.5
    assert lost + won > 0 or one_sided == 1.0


@pytest.mark.parametrize("seed", range(20))
def test_holm_is_statsmodels_holm(seed: int) -> None:
    generator = np.random.default_rng(seed)
    p_values = [float(p) for p in generator.random(1 + seed % 12) ** 3]
    assert holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]), abs=1e-12)


def test_the_promised_number_of_items_has_the_promised_power() -> None:
    """items_needed is checked by drawing that many items: the claim is then made about `power` of the time."""
    generator = np.random.default_rng(3)
    shares = [0.03, 0.94, 0.03]
    first = paired_difference(generator.choice([-1.0, 0.0, 1.0], p=shares, size=100_000), prior=False)
    pilot = Difference(0.0, first.variance * 1000, 99.0, 100)
    needed = items_needed(pilot, -0.02, 0.05, 0.8)
    assert needed is not None
    shown = [p_above(paired_difference(generator.choice([-1.0, 0.0, 1.0], p=shares, size=needed)), -0.02) <= 0.05 for _ in range(600)]
    assert np.mean(shown) == pytest.approx(0.8, abs=0.06)


def test_no_number_of_items_shows_what_is_not_so() -> None:
    assert items_needed(Difference(-0.03, 1e-4, 99.0, 100), -0.02, 0.05, 0.8) is None
    assert items_needed(Difference(0.0, math.inf, 1.0, 1), -0.02, 0.05, 0.8) is None


def test_detectable_effect_shrinks_with_the_root_of_n() -> None:
    one = minimum_detectable_effect(paired_difference(np.tile([1.0, -1.0, 0.0, 0.0], 100), prior=False), 0.05, 0.8)
    four = minimum_detectable_effect(paired_difference(np.tile([1.0, -1.0, 0.0, 0.0], 400), prior=False), 0.05, 0.8)
    assert one / four == pytest.approx(2.0, rel=1e-2)


def test_bootstrap_keeps_pairs_and_covers() -> None:
    generator = np.random.default_rng(4)
    before = (generator.random(400) < 0.7).astype(float)
    after = np.where(generator.random(400) < 0.05, 1 - before, before)
    samples = bootstrap_means(np.stack([before, after, before]))
    assert np.array_equal(samples[0], samples[2])
    low, high = percentile_interval(samples[1] - samples[0])
    expected = interval(paired_difference(after - before, prior=False), 0.05)
    assert (low, high) == pytest.approx(expected, abs=0.004)
    assert np.array_equal(samples, bootstrap_means(np.stack([before, after, before])))


def test_bootstrap_weights_and_clusters() -> None:
    scores, weight = np.tile([1.0, 0.0], 100)[None], np.tile([1.0, 3.0], 100)
    assert bootstrap_means(scores, weight).mean() == pytest.approx(0.25, abs=0.01)
    clustered = bootstrap_means(scores, weight, [f"passage {index // 2}" for index in range(200)], repeats=50)
    assert clustered == pytest.approx(0.25)


# ------------------------------------------------------------------------------------------------ under the hypothesis


def _tango(lost: float, won: float, margin: float) -> float:
    """Tango (1998), the restricted estimate in closed form: lost and won are shares, the difference won - lost is -margin."""
    b = -(lost + won) - (2.0 - won + lost) * margin
    share = (math.sqrt(b * b - 8.0 * lost * margin * (1.0 + margin)) - b) / 4.0
    return 2.0 * share - margin - margin**2


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 600), st.sampled_from([0.01, 0.02, 0.03, 0.1]))
def test_of_right_and_wrong_it_is_the_score_tests_variance(lost: int, won: int, kept: int, margin: float) -> None:
    n = lost + won + kept
    if n < 2 or (won - lost) / n <= -margin:
        return
    d = np.r_[-np.ones(lost), np.ones(won), np.zeros(kept)]
    assert null_item_variance(d, np.full(n, 1.0 / n), margin) == pytest.approx(_tango(lost / n, won / n, margin), rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1, 1, width=16), min_size=2, max_size=6), st.sampled_from([0.02, 0.05, 0.2]), st.integers(0, 10))
def test_of_graded_scores_it_is_the_likeliest_distribution_with_that_mean(values: list[float], margin: float, seed: int) -> None:
    """Against a search over all distributions on the values and -1 (scipy), of which the likeliest with mean -margin is wanted."""
    d = np.array(values)
    weight = np.random.default_rng(seed).dirichlet(np.full(len(d), 5.0))
    found = null_item_variance(d, weight, margin)
    if found is None:
        assert weight @ d <= -margin
        return
    support, target = np.r_[d, -1.0], np.r_[weight, 0.0]

    def minus_likelihood(p: np.ndarray) -> float:
        return -float(target[:-1] @ np.log(np.maximum(p[:-1], 1e-300)))

    constraints = [{"type": "eq", "fun": lambda p: p.sum() - 1.0}, {"type": "eq", "fun": lambda p: p @ support + margin}]
    start = np.r_[weight * 0.5, 0.5]
    best = optimize.minimize(
        minus_likelihood,
        start,
        bounds=[(1e-12, 1.0)] * len(support),
        constraints=constraints,
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-13},
    )
    assert best.success
    assert found == pytest.approx(float(best.x @ (support + margin) ** 2), abs=2e-4)


def test_what_is_seen_under_the_margin_is_left_alone() -> None:
    lost = np.r_[-np.ones(20), np.zeros(80)]
    pooled = paired_difference(lost)
    assert with_null_variance(pooled, [lost], [None], 0.02) == pooled
    still = np.zeros(400)
    grown = with_null_variance(paired_difference(still), [still], [None], 0.02)
    assert grown.variance == pytest.approx((0.02 - 0.02**2) / 400)
    assert grown.mean == 0.0


def test_pooling_takes_every_suite_with_the_same_weight() -> None:
    generator = np.random.default_rng(3)
    small, large = (generator.choice([-1.0, 0.0, 1.0], p=[0.05, 0.9, 0.05], size=n) for n in (50, 5000))
    parts = [paired_difference(d) for d in (small, large)]
    found = with_null_variance(pool(parts), [small, large], [None, None], 0.1).variance
    share = [(float((d < 0).mean()), float((d > 0).mean())) for d in (small, large)]
    lost, won = (sum(each) / 2 for each in zip(*share, strict=True))
    per_item = (1 / 50 + 1 / 5000) / 4
    null = _tango(lost, won, 0.1)
    plain = pool([paired_difference(d, prior=False) for d in (small, large)]).variance
    expected = plain + (null - (lost + won - (won - lost) ** 2)) * per_item
    assert found == pytest.approx(max(expected, null * per_item), rel=1e-9)


def test_draws_are_items_unless_passages_move_together() -> None:
    generator = np.random.default_rng(4)
    one = generator.choice([-1.0, 0.0, 1.0], p=[0.2, 0.6, 0.2], size=200)
    passages = [f"passage {index // 4}" for index in range(800)]
    assert effective_draws(one) == effective_draws(one, [None] * 200) == 200
    assert effective_draws(np.repeat(one, 4), passages) == pytest.approx(200)
    apart = generator.choice([-1.0, 0.0, 1.0], p=[0.2, 0.6, 0.2], size=800)
    assert 600 < effective_draws(apart, passages) <= 800
    few = np.zeros(800)
    few[:9] = -1.0  # three passages
    assert effective_draws(few, passages) == 200, "three passages do not say how items go together"
    assert effective_draws(few, ["one"] * 800) == 1


@pytest.mark.parametrize("kind", ["passages", "graded"])
def test_losses_on_few_passages_or_few_items_are_not_missed_more_often_than_allowed(kind: str) -> None:
    """A true loss of the margin on 2 % of passages or items: with the sample variance it was ruled out 9 to 15 % of the time."""
    generator, shown, before = np.random.default_rng(5), [], []
    for _ in range(600):
        hit = generator.random(100 if kind == "passages" else 400) < 0.02
        d = (
            np.repeat(np.where(hit, -1.0, 0.0), 4)
            if kind == "passages"
            else np.where(hit, -1.0, generator.normal(0, 0.02, 400).clip(-1, 1))
        )
        cluster = [str(index // 4) for index in range(400)] if kind == "passages" else None
        plain = paired_difference(d, cluster)
        before.append(p_above(plain if kind == "graded" else not_below_null_variance(plain, [400], 0.02), -0.02) <= 0.05)
        shown.append(p_above(with_null_variance(plain, [d], [cluster], 0.02), -0.02) <= 0.05)
    assert np.mean(before) > 0.07
    assert np.mean(shown) <= 0.06
