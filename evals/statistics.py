"""The arithmetic of paired comparisons: pure functions of arrays, no suites, no files.

Everywhere d is candidate minus reference for one item, so that positive is better; `margin` and `threshold` are in the same unit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """A mean paired difference. `variance` is that of the mean; `degrees` are of its t distribution; n counts items."""

    mean: float
    variance: float
    degrees: float
    n: int

    @property
    def standard_error(self) -> float:
        return math.sqrt(self.variance)


def paired_difference(d: Floats, cluster: Sequence[str | None] | None = None, *, prior: bool = True) -> Difference:
    """Mean of d (length n) and the variance of that mean, robust to items that share a passage.

    Without clusters and prior this is s^2 / n, which is what OLS on a suite dummy with HC2 errors gives; items with the same `cluster`
    count as one draw (cluster-robust, with the G / (G - 1) correction). `prior` adds half a lost and half a won item to the variance,
    after Agresti and Min (2005), Statistics in Medicine 24:729: where no item changed, s^2 = 0 would claim certainty from thirty items.
    """
    n = len(d)
    residual = d - d.mean()
    sums = _cluster_sums(residual, cluster)
    draws = len(sums)
    if draws < 2:
        return Difference(float(d.mean()), math.inf, 1.0, n)
    per_item = float(np.square(sums).sum()) * draws / (draws - 1) / n
    if prior:
        per_item = (n * per_item + 1.0) / (n + 2.0)
    return Difference(float(d.mean()), per_item / n, float(draws - 1), n)


def relative_change(before: Floats, after: Floats, weight: Floats, cluster: Sequence[str | None] | None = None) -> Difference:
    """Relative change of a weighted mean of which less is better, positive is better: -(sum w (a - b)) / (sum w b).

    The variance is that of the ratio, paired and linearised: the influence of an item has mean zero, so its spread is the estimate's.
    """
    n = len(before)
    base = float((weight * before).sum())
    change = float((weight * (after - before)).sum()) / base
    influence = -(weight * (after - before) - change * weight * before) * n / base
    spread = paired_difference(influence, cluster, prior=False)
    return Difference(-change, spread.variance, spread.degrees, n)


def _cluster_sums(residual: Floats, cluster: Sequence[str | None] | None) -> Floats:
    codes = cluster_codes(len(residual), cluster)
    return np.asarray(np.bincount(codes, weights=residual), dtype=np.float64)


def cluster_codes(n: int, cluster: Sequence[str | None] | None) -> NDArray[np.int64]:
    """One integer per draw: items of one cluster share it, an item without a cluster is a draw of its own."""
    if cluster is None or all(name is None for name in cluster):
        return np.arange(n)
    seen: dict[str | tuple[int], int] = {}
    return np.array([seen.setdefault((index,) if name is None else name, len(seen)) for index, name in enumerate(cluster)], dtype=np.int64)


FEW_PASSAGES = 10
"""With fewer passages that changed, the sample does not say how much items of one passage go together."""


def effective_draws(d: Floats, cluster: Sequence[str | None] | None = None) -> float:
    """How many independent draws the items are worth: all of them, or fewer where items that share a passage change together.

    The design effect (Kish 1965, Survey Sampling, section 5.4) is that of the sample; where fewer than `FEW_PASSAGES` passages changed,
    a passage counts as one draw, the worst that can be.
    """
    codes = cluster_codes(len(d), cluster)
    passages = int(codes.max()) + 1
    if passages in (1, len(d)) or len(np.unique(codes[d != 0])) < FEW_PASSAGES:
        return float(passages)
    together, apart = (paired_difference(d, each, prior=False).variance for each in (cluster, None))
    effect = together / apart if apart > 0.0 else math.inf
    return len(d) / min(max(effect, 1.0), len(d) / passages)


def pool(parts: Sequence[Difference]) -> Difference:
    """Unweighted mean over suites, each its own block: variance sum(V_j) / J^2, degrees by Welch and Satterthwaite."""
    variance = sum(part.variance for part in parts)
    spread = sum(part.variance**2 / part.degrees for part in parts)
    total = sum(part.n for part in parts)
    degrees = variance**2 / spread if 0 < spread < math.inf else float(max(1, total - len(parts)))
    return Difference(sum(part.mean for part in parts) / len(parts), variance / len(parts) ** 2, degrees, total)


def not_below_null_variance(pooled: Difference, sizes: Sequence[float], margin: float) -> Difference:
    """The pooled difference of right-or-wrong scores with at least the variance that a true mean of -margin would bring.

    d is -1, 0 or 1, so E[d^2] >= |E[d]|: where the true mean loss is `margin`, one item varies by margin - margin^2 or more. A sample in
    which (almost) no item changed shows less than that by luck, and would rule out a loss that it had no chance to see. The idea of the
    restricted variance is Nam's (1997, Biometrics 53:1422).
    """
    least = (margin - margin**2) * sum(1.0 / n for n in sizes) / len(sizes) ** 2
    return replace(pooled, variance=max(pooled.variance, least))


def null_item_variance(d: Floats, weight: Floats, margin: float) -> float | None:
    """Variance of one d in [-1, 1] as the likeliest distribution with mean -margin has it; None where the sample's mean is not above that.

    d (length n) is weighted by `weight` (sums to 1). Where few items happened to be lost, both the mean and the sample variance are
    luckily good, so a test with the sample variance claims too often. Under the hypothesis itself the lost items count for as many as
    the margin says: p_i = w_i / (1 + lambda (d_i + margin)), the empirical likelihood under a given mean (Owen 1988, Biometrika 75:237),
    with -1, the largest possible loss, as a value that can occur although none was seen. For right-or-wrong scores this is the restricted
    variance of the score test (Tango 1998, Statistics in Medicine 17:891).
    """
    x, worst = d + margin, 1.0 - margin
    if not float((weight * x).sum()) > 0.0:
        return None
    low, high = 0.0, 1.0 / worst
    shortfall = -math.inf if float(x.min()) <= -worst + 1e-12 else float((weight * x / (1.0 + high * x)).sum())
    unseen = max(0.0, shortfall) / worst  # mass of the largest possible loss, where the values that were seen cannot bring the mean down
    if unseen > 0.0:
        low = high
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if float((weight * x / (1.0 + middle * x)).sum()) > 0.0 else (low, middle)
    tilted = float((weight * x**2 / (1.0 + low * x)).sum())
    return tilted + unseen * worst**2


def with_null_variance(
    pooled: Difference,
    samples: Sequence[Floats],
    clusters: Sequence[Sequence[str | None] | None],
    margin: float,
    *,
    draws: Sequence[float] | None = None,
    largest: float = 1.0,
) -> Difference:
    """The pooled difference of scores in [0, 1] with the variance that it would have if its true mean were -margin.

    `samples` are the d of each suite, `clusters` the passages of their items. The suites are taken as one sample in which every suite has
    the same weight; what differs between them counts as noise, which is on the safe side. What the hypothesis brings takes the place of
    the pseudo-counts of `paired_difference`. Where the mean is not above -margin, nothing is to be ruled out and nothing changes.

    `draws` gives the independent draws of each sample where they are known otherwise; `largest` the largest loss of one row where rows are
    weighted (evals.weighted).
    """
    suites = len(samples)
    weight = np.concatenate([np.full(len(d), 1.0 / (suites * len(d))) for d in samples])
    every = np.concatenate(samples)
    scaled = null_item_variance(every / largest, weight, margin / largest)
    if scaled is None:
        return pooled
    null = scaled * largest**2
    seen = float((weight * every**2).sum() - (weight * every).sum() ** 2)
    plain = pool([paired_difference(d, cluster, prior=False) for d, cluster in zip(samples, clusters, strict=True)])
    worth = draws or [effective_draws(d, cluster) for d, cluster in zip(samples, clusters, strict=True)]
    per_item = sum(1.0 / each for each in worth) / suites**2
    return replace(pooled, variance=max(plain.variance + (null - seen) * per_item, null * per_item))


def p_above(difference: Difference, threshold: float) -> float:
    """One-sided p for H0: mean <= threshold. Small means: the mean is shown to lie above it."""
    gap = difference.mean - threshold
    if difference.variance == 0.0:
        return 0.0 if gap > 0 else 1.0
    return float(stats.t.sf(gap / difference.standard_error, difference.degrees))


def p_below(difference: Difference, threshold: float) -> float:
    """One-sided p for H0: mean >= threshold."""
    return p_above(Difference(-difference.mean, difference.variance, difference.degrees, difference.n), -threshold)


def interval(difference: Difference, alpha: float) -> tuple[float, float]:
    """The (1 - 2 alpha) interval whose ends are the one-sided bounds that the tests use."""
    reach = float(stats.t.isf(alpha, difference.degrees)) * difference.standard_error if difference.variance > 0 else 0.0
    return difference.mean - reach, difference.mean + reach


def mcnemar_p(against: int | NDArray[np.int64], favour: int | NDArray[np.int64]) -> Floats:
    """One-sided exact McNemar: chance of at least `against` of the discordant items under a fair coin. No discordant items: 1."""
    return np.asarray(stats.binom.sf(np.asarray(against) - 1, np.asarray(against) + np.asarray(favour), 0.5), dtype=np.float64)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given."""
    adjusted = [1.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def minimum_detectable_effect(difference: Difference, alpha: float, power: float) -> float:
    """The true change that this many items would have shown with the given power."""
    return reach(alpha, power) * difference.standard_error


def reach(alpha: float, power: float) -> float:
    """How many standard errors away a truth must lie to be shown at level `alpha` with a chance of `power`."""
    return float(stats.norm.isf(alpha)) + float(stats.norm.ppf(power))


def items_needed(difference: Difference, threshold: float, alpha: float, power: float, *, optimistic: bool = False) -> int | None:
    """How many items in all would show mean > threshold, if items go on as they went so far; None where more would not help.

    A lucky positive mean is taken as zero, unless `optimistic` (for a gain, the mean itself is what is hoped for).
    """
    mean = difference.mean if optimistic else min(difference.mean, 0.0)
    gap = mean - threshold
    if not gap > 0 or not math.isfinite(difference.variance):
        return None
    factor = (minimum_detectable_effect(difference, alpha, power) / gap) ** 2
    return max(difference.n + 1, math.ceil(difference.n * factor))


def bootstrap_means(
    scores: Floats, weight: Floats | None = None, cluster: Sequence[str | None] | None = None, *, repeats: int = 1000, seed: int = 0
) -> Floats:
    """Means of resampled items, (rounds x repeats), from scores (rounds x n): every round sees the same items, so pairs stay pairs.

    With `weight` the mean is weighted (bits per byte by bytes); items that share a cluster are drawn together. Equal input, equal output.
    """
    rounds, n = scores.shape
    codes = cluster_codes(n, cluster)
    draws = int(codes.max()) + 1
    weights = np.ones(n) if weight is None else weight
    mass = np.bincount(codes, weights=weights, minlength=draws)
    sums = np.stack([np.bincount(codes, weights=row * weights, minlength=draws) for row in scores])
    generator = np.random.default_rng(seed)
    means = np.empty((rounds, repeats))
    for start in range(0, repeats, 100):
        stop = min(start + 100, repeats)
        counts = generator.multinomial(draws, np.full(draws, 1.0 / draws), size=stop - start).T.astype(np.float64)
        means[:, start:stop] = (sums @ counts) / (mass @ counts)
    return means


def wilson_interval(right: float, n: int, alpha: float = 0.05) -> tuple[float, float]:
    """The (1 - 2 alpha) interval of a share of right answers (Wilson 1927); it has a width where all or none are right."""
    z2 = float(stats.norm.isf(alpha)) ** 2
    share = right / n
    middle, half = share + z2 / (2 * n), math.sqrt(z2) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, (middle - half) / (1 + z2 / n)), min(1.0, (middle + half) / (1 + z2 / n))


def percentile_interval(samples: Floats, alpha: float = 0.05) -> tuple[float, float]:
    """The (1 - 2 alpha) percentile interval of bootstrap samples."""
    low, high = np.quantile(samples, [alpha, 1.0 - alpha])
    return float(low), float(high)
