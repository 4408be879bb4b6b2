"""The gate's rules for items drawn by margin, over many simulated draws at once; gate_drawn.py holds them to `evals.gate` on some of them.

Arrays are draws x suites x items of the pool: `d` is candidate minus reference, `read` which items were read, `weight` 1 / chance. All
suites have a pool of the same size, read the same number of items, and right-or-wrong scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from gate_rules import BLOCK, HOLD, PASS, columns_of, holm_rejects
from numpy.typing import NDArray
from scipy import stats

from data_contracts.manifests import Category
from evals.gate.policy import GatePolicy

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Sample:
    """What a look sees: weighted rows (zero where not read), items read of each suite, the largest weight of each draw."""

    rows: Floats
    n: int
    largest: Floats

    @property
    def pool(self) -> int:
        return int(self.rows.shape[2])

    @property
    def drawn(self) -> bool:
        return self.n < self.pool

    def of(self, columns: list[int]) -> Sample:
        return Sample(self.rows[:, columns], self.n, self.largest)


def look(d: Floats, read: Bools, weight: Floats) -> Sample:
    """The rows of evals.weighted.pool_rows."""
    kept = np.where(read, weight, 0.0)
    scaled = kept * (d.shape[2] / kept.sum(2, keepdims=True))
    return Sample(scaled * d, int(read[0, 0].sum()), scaled.max((1, 2)))


def moments(sample: Sample) -> tuple[Floats, Floats, Floats]:
    """(mean, variance with the pseudo-counts, variance without), each draws x suites."""
    pool = sample.pool
    mean = sample.rows.mean(2)
    per_item = ((sample.rows**2).sum(2) - pool * mean**2) / (pool - 1)
    prior = (pool / sample.n) ** 2
    return mean, (pool * per_item + prior) / (pool + 2.0) / pool, per_item / pool


def tilted_variance(sample: Sample, margin: float) -> Floats:
    """evals.statistics.null_item_variance of every draw's rows: values that occur once are kept, the zeros are counted."""
    draws, suites, pool = sample.rows.shape
    flat = sample.rows.reshape(draws, suites * pool) / sample.largest[:, None]
    total, kept = flat.shape[1], max(1, int((flat != 0).sum(1).max()))
    place = np.argpartition(-np.abs(flat), min(kept, total - 1), axis=1)[:, :kept]
    delta = margin / sample.largest
    x, zeros, worst = np.take_along_axis(flat, place, 1) + delta[:, None], total - kept, 1.0 - delta
    high = 1.0 / worst
    with np.errstate(divide="ignore", invalid="ignore"):
        at_most = (x / (1.0 + high[:, None] * x)).sum(1) / total + zeros / total * delta / (1.0 + high * delta)
    shortfall = np.where(x.min(1) <= -worst + 1e-12, -np.inf, at_most)
    unseen = np.maximum(0.0, shortfall) / worst
    low = np.where(unseen > 0.0, high, 0.0)
    for _ in range(60):
        middle = 0.5 * (low + high)
        up = (x / (1.0 + middle[:, None] * x)).sum(1) / total + zeros / total * delta / (1.0 + middle * delta) > 0.0
        low, high = np.where(up, middle, low), np.where(up, high, middle)
    tilted = (x**2 / (1.0 + low[:, None] * x)).sum(1) / total + zeros / total * delta**2 / (1.0 + low * delta)
    return np.asarray((tilted + unseen * worst**2) * sample.largest**2)


def pooled(sample: Sample, margin: float, alpha: float, block_alpha: float = 0.05) -> NDArray[np.int64]:
    """PASS, BLOCK or HOLD for one category (evals.gate.checks.non_inferiority)."""
    mean, variance, plain = moments(sample)
    suites, total = variance.shape[1], variance.shape[1] * sample.pool
    centre = mean.mean(1)
    degrees = variance.sum(1) ** 2 / (variance**2 / (sample.n - 1)).sum(1)
    found = np.maximum(variance.sum(1) / suites**2, (margin - margin**2) / total)
    null = tilted_variance(sample, margin)
    seen = (sample.rows**2).sum((1, 2)) / total - centre**2
    raised = np.maximum(plain.sum(1) / suites**2 + (null - seen) / total, null / total)
    spread = np.where(centre > -margin, raised, found)
    shown = stats.t.sf((centre + margin) / np.sqrt(spread), degrees) <= alpha
    worse = (stats.t.sf(-centre / np.sqrt(spread), degrees) <= block_alpha) & (centre <= -margin)
    return np.where(shown, PASS, np.where(worse, BLOCK, HOLD))


def proven_losses(sample: Sample, policy: GatePolicy) -> Bools:
    """Which suites (draws x suites) have a proven loss after Holm: paired t by weight, exact McNemar where all items count alike."""
    lost, won = (sample.rows < 0).sum(2), (sample.rows > 0).sum(2)
    mean, variance, _ = moments(sample)
    if sample.drawn:
        p = np.where(lost + won > 0, stats.t.sf(-mean / np.sqrt(variance), sample.n - 1), 1.0)
    else:
        p = stats.binom.sf(lost - 1, lost + won, 0.5)
    return holm_rejects(p, policy.alpha)


def judge_drawn(
    champion: Sample, categories: list[Category], policy: GatePolicy, alpha: float, anchor: Sample | None = None
) -> NDArray[np.int64]:
    """The decision for every draw, against the champion and, where given, the anchors."""
    blocked = np.zeros(len(champion.rows), dtype=bool)
    held = blocked.copy()
    for sample, anchored in [(champion, False)] + ([(anchor, True)] if anchor else []):
        assert sample is not None
        for category in dict.fromkeys(categories):
            margin = policy.anchor_budget if anchored else policy.margin(category)
            outcome = pooled(sample.of(columns_of(categories, category)), margin, alpha, policy.alpha)
            blocked |= outcome == BLOCK
            held |= outcome == HOLD
        mean = moments(sample)[0]
        proven = proven_losses(sample, policy)
        if anchored:
            proven &= mean < -policy.anchor_budget
        blocked |= (proven | (mean <= -policy.floor + 1e-12)).any(1)
    return np.where(blocked, BLOCK, np.where(held, HOLD, PASS))
