"""Which items of a large pool are read: by the margins of a model that was there before, each item with a known chance.

    chance = inclusion_chances(item_sizes(margin), 400)
    read = chosen(doc_hash, item_sizes(margin), 400)

An item near the border between right and wrong flips more often than one that is answered with confidence, so reading it says more. Items
are drawn by sequential Poisson sampling (Ohlsson 1998, Journal of Official Statistics 14:149): every item has a number between 0 and 1 and
a size, and the n items with the smallest number / size are read. So a larger n keeps the items of a smaller one, and the chance to be read
is min(1, k size), with k such that the chances add up to n. The number is the item's digest: no model has a part in it.
Arrays are in the pool's order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]

ASSUMED_CHURN = 0.15
"""Share of items that flip by which sizes are made: more than is expected of a round, because margins grow old while a lineage grows. The
chances to be read are right whatever the share is."""
LEAST_SIZE = 0.5
"""Smallest size as a share of the mean one: no item is read with less than half of the chance that an even draw would give it."""


def item_sizes(margin: Floats) -> Floats:
    """Sizes from distances to the border between right and wrong (any unit, 0 or more): square root of a chance to flip, bounded below.

    The chance is Phi(-margin / spread), with one spread for all items that makes the mean chance ASSUMED_CHURN. The square root gives the
    estimate with the smallest variance where these are the chances (Neyman allocation); the bound is for items that flip otherwise.
    """
    distance = np.abs(np.asarray(margin, dtype=np.float64))
    largest = float(distance.max(initial=0.0))
    if largest == 0.0:
        return np.ones(len(distance))
    low, high = -40.0, 40.0  # of log(spread / largest)
    for _ in range(80):
        middle = 0.5 * (low + high)
        mean = float(special.ndtr(-distance / (largest * np.exp(middle))).mean())
        low, high = (low, middle) if mean > ASSUMED_CHURN else (middle, high)
    size = np.sqrt(special.ndtr(-distance / (largest * np.exp(low))))
    for _ in range(100):  # the bound raises the mean, by less each time
        size = np.maximum(size, LEAST_SIZE * size.mean())
    return np.asarray(size, dtype=np.float64)


def inclusion_chances(size: Floats, n: float) -> Floats:
    """Chance of each item to be among the n that are read: min(1, k size), n in all. Every item where n is not less than the pool."""
    if n >= len(size):
        return np.ones(len(size))
    order = np.argsort(-size, kind="stable")
    descending = size[order]
    rest = np.cumsum(descending[::-1])[::-1]  # sum from each place to the end
    scale = (n - np.arange(len(size))) / rest  # k, where so many items before the place are read for certain
    certain = int(np.argmax(scale * descending <= 1.0))
    return np.asarray(np.minimum(1.0, scale[certain] * size), dtype=np.float64)


def chosen(doc_hash: Sequence[str], size: Floats, n: int) -> NDArray[np.bool_]:
    """Which items are read. Numbers are the first 52 bits of each digest."""
    numbers = np.array([int(digest[:13], 16) for digest in doc_hash], dtype=np.float64) / 16.0**13
    read = np.zeros(len(size), dtype=np.bool_)
    read[np.argsort(numbers / size, kind="stable")[:n]] = True
    return read
