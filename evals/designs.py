"""What items drawn by margin are worth, before they are read: as many as how many evenly drawn ones?

    Design.of(MarginDraw(margins, age=2), churn=0.1).worth(400, 1000, margin=0.02)    # about 450

The model of docs/results/gate.md: a round moves every item's margin by a normal amount, with one spread for all, so that an item of margin
m flips with a chance of Phi(-m / spread); margins that are `age` promoted rounds old have moved so many times since. Where they have, the
draw prefers the wrong items, and 400 of them may be worth fewer than 400. It is a plan: the gate counts what was read by its chances,
whether the model holds or not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from evals.drawing import inclusion_chances, item_sizes
from evals.statistics import null_item_variance

Floats = NDArray[np.float64]

_SHIFTS = special.ndtri((np.arange(101) + 0.5) / 101)  # a normal distribution in equal parts


@dataclass(frozen=True)
class MarginDraw:
    """How a suite's items are drawn: the distances of its pool, or of an even sample of it, to the border between right and wrong (any
    unit), and how many rounds were promoted since the model that has these."""

    margin: tuple[float, ...]
    age: int = 0


def flip_chances(margin: Floats, churn: float, age: int = 0) -> Floats:
    """Each item's chance to flip in the coming round where its margin was measured `age` promoted rounds ago; `churn` on average."""
    distance = np.abs(margin)
    if churn <= 0.0 or not distance.any():
        return np.full(len(distance), churn)
    now = np.abs(distance[:, None] + np.sqrt(age) * _spread_of(distance, churn) * (_SHIFTS if age else np.zeros(1)))
    return np.asarray(special.ndtr(-now / _spread_of(now, churn)).mean(axis=1), dtype=np.float64)


def _spread_of(distance: Floats, churn: float) -> float:
    """The spread of a round's shift that makes so many items flip; at a churn of a half and more, one that is wide enough."""
    largest = float(distance.max())
    low, high = -40.0, 40.0  # of log(spread / largest)
    for _ in range(50):
        middle = 0.5 * (low + high)
        mean = float(special.ndtr(-distance / (largest * np.exp(middle))).mean())
        low, high = (low, middle) if mean > churn else (middle, high)
    return largest * float(np.exp(low))


@dataclass(frozen=True)
class Design:
    """A suite's draw, with the size and the chance to flip of each item of its pool."""

    sizes: Floats
    flips: Floats

    @classmethod
    def of(cls, draw: MarginDraw, churn: float) -> Design:
        margin = np.asarray(draw.margin, dtype=np.float64)
        return cls(item_sizes(margin), flip_chances(margin, churn, draw.age))

    def worth(self, n: int, pool: int, margin: float | None = None) -> float:
        """How many evenly drawn items have the variance of `n` that are drawn from `pool`: of the change, where nothing was lost.

        With `margin` it is the variance that the gate takes where a loss of so much is to be ruled out (statistics.with_null_variance).
        """
        if n >= pool:
            return float(n)
        share = n / pool
        relative = inclusion_chances(self.sizes, share * len(self.sizes)) / share  # 1: as an even draw
        churn = float(self.flips.mean())
        if margin is None:
            return n * churn / float((self.flips / relative).mean()) if churn > 0.0 else float(n)
        largest = 1.0 / (share * float(relative.min()))
        drawn = _null_variance(1.0 / (share * relative * largest), share * relative * self.flips, margin / largest) * largest**2
        return pool * null_variance(churn, margin) / drawn


def null_variance(churn: float, margin: float) -> float:
    """Variance of one evenly drawn change as it would be if `margin` were lost, where a share `churn` flips, both ways alike."""
    return _null_variance(np.ones(1), np.array([churn]), margin)


def _null_variance(value: Floats, chance: Floats, margin: float) -> float:
    """The same of rows that are -value or +value with half of the chance each, else 0; every item of the pool has the same weight."""
    mass = chance / (2.0 * len(chance))
    can = mass > 0.0  # a value without a chance is not in the distribution
    values = np.concatenate([-value[can], value[can], np.zeros(1)])
    variance = null_item_variance(values, np.concatenate([mass[can], mass[can], np.array([1.0 - 2.0 * mass.sum()])]), margin)
    if variance is None:
        raise ValueError(f"margin {margin}: expected a margin above 0")
    return variance
