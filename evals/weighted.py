"""The arithmetic of paired comparisons where items were drawn with unequal chances (evals.drawing): each counts for 1 / chance items.

The pool's items are taken as independent draws of their kind, as the items of every suite are. With y = d / chance for an item that was
read and y = 0 for one that was not, the y of all the pool's items are independent too, with the mean of d (Horvitz and Thompson 1952). So
everything in `evals.statistics` holds for these rows, in the range of the largest weight instead of 1. The weights are scaled to add up to
the pool (Hajek 1971), so that a change is the difference of two scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from evals.statistics import Difference, effective_draws, paired_difference

Floats = NDArray[np.float64]
Clusters = Sequence[str | None]


def pool_rows(d: Floats, weight: Floats, pool: int) -> Floats:
    """One row for each of the pool's items: the weighted d of those that were read (length n), then zeros."""
    return np.concatenate([d * weight * (pool / weight.sum()), np.zeros(pool - len(d))])


def pool_clusters(cluster: Clusters, pool: int) -> tuple[str | None, ...]:
    """The passages of these rows; an item that was not read is a row of its own."""
    return (*cluster, *(None for _ in range(pool - len(cluster))))


def weighted_difference(d: Floats, weight: Floats, cluster: Clusters, pool: int, *, prior: bool = True) -> Difference:
    """Weighted mean of d (length n) and the variance of that mean; `n` counts the items that were read.

    `prior` adds half a lost and half a won item of the weight that an even draw would give them (statistics.paired_difference).
    """
    n = len(d)
    plain = paired_difference(pool_rows(d, weight, pool), pool_clusters(cluster, pool), prior=False)
    degrees = paired_difference(d, cluster).degrees
    per_item = plain.variance * pool
    if prior:
        per_item = (pool * per_item + (pool / n) ** 2) / (pool + 2.0)
    return replace(plain, variance=per_item / pool, degrees=degrees, n=n)


def weighted_draws(d: Floats, weight: Floats, cluster: Clusters, pool: int) -> float:
    """How many independent rows the pool's rows are worth, by the passages of those that were read (statistics.effective_draws)."""
    return effective_draws(d * weight, cluster) * pool / len(d)


def largest_weight(weight: Floats, pool: int) -> float:
    """The largest absolute value of a row."""
    return float(weight.max() * pool / weight.sum())
