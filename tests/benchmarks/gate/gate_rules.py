"""The gate's rules over many simulated draws at once; gate.py holds them to `evals.gate.decide.decide` on a sample of the same draws.

Arrays are draws x suites. `n`, the items of a suite, is one number or an array of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from data_contracts.manifests import Category
from evals.gate.decide import GatePolicy
from evals.statistics import mcnemar_p

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

PASS, BLOCK, HOLD = 0, 1, 2


@dataclass(frozen=True)
class Scenario:
    """`losses` is the true loss of each suite, in score units."""

    name: str
    losses: tuple[float, ...]


def scenarios(categories: Sequence[Category]) -> list[Scenario]:
    none = (0.0,) * len(categories)
    return [
        Scenario("nothing changed", none),
        Scenario("all suites −2 points", (0.02,) * len(categories)),
        Scenario("one skill −5 points", (0.05, *none[1:])),
        Scenario("one skill −10 points", (0.10, *none[1:])),
    ]


def moments(lost: Ints, won: Ints, n: int | Ints) -> tuple[Floats, Floats]:
    """(mean, variance of the mean) of paired differences, as statistics.paired_difference has them."""
    mean = (won - lost) / n
    per_item = ((won + lost) - n * mean**2) / (n - 1)
    return mean, (n * per_item + 1.0) / (n + 2.0) / n


def pooled_outcome(
    lost: Ints, won: Ints, n: int | Ints, margin: float, alpha: float | Floats, block_alpha: float = 0.05, *, null: bool = True
) -> Ints:
    """PASS, BLOCK or HOLD for one category; counts are draws x suites. `null`: with the null variance, as today's rules take it."""
    mean, variance = moments(lost, won, n)
    centre, spread = mean.mean(1), pooled_variance(lost, won, n, margin, null=null)
    degrees = variance.sum(1) ** 2 / (variance**2 / (n - 1)).sum(1)
    shown = stats.t.sf((centre + margin) / np.sqrt(spread), degrees) <= alpha
    worse = (stats.t.sf(-centre / np.sqrt(spread), degrees) <= block_alpha) & (centre <= -margin)
    return np.where(shown, PASS, np.where(worse, BLOCK, HOLD))


def pooled_variance(lost: Ints, won: Ints, n: int | Ints, margin: float, *, null: bool = True) -> Floats:
    """Variance of a category's mean, and at least what a true loss of the margin would bring (statistics.with_null_variance)."""
    mean, variance = moments(lost, won, n)
    suites = variance.shape[1]
    per_item = np.broadcast_to(1.0 / np.asarray(n), variance.shape).sum(1) / suites**2
    found = np.maximum(variance.sum(1) / suites**2, (margin - margin**2) * per_item)
    if not null:
        return found
    fell, rose = (lost / n).mean(1), (won / n).mean(1)
    under = null_item_variance(fell, rose, margin)
    items = np.broadcast_to(np.asarray(n), variance.shape)
    plain = (((won + lost) / items - mean**2) / (items - 1)).sum(1) / suites**2
    raised = np.maximum(plain + (under - (fell + rose - (rose - fell) ** 2)) * per_item, under * per_item)
    return np.where(mean.mean(1) > -margin, raised, found)


def null_item_variance(lost: Floats, won: Floats, margin: float) -> Floats:
    """Restricted variance of right-or-wrong scores in closed form (Tango 1998); `lost` and `won` are shares."""
    b = -(lost + won) - (2.0 - won + lost) * margin
    share = (np.sqrt(b * b - 8.0 * lost * margin * (1.0 + margin)) - b) / 4.0
    return 2.0 * share - margin - margin**2


def holm_rejects(p: Floats, alpha: float) -> NDArray[np.bool_]:
    """Which p-values (draws x suites) Holm rejects."""
    order = np.argsort(p, axis=1)
    ranked = np.take_along_axis(p, order, axis=1)
    factors = p.shape[1] - np.arange(p.shape[1])
    adjusted = np.minimum(1.0, np.maximum.accumulate(ranked * factors, axis=1))
    rejected = np.empty_like(p, dtype=bool)
    np.put_along_axis(rejected, order, adjusted <= alpha, axis=1)
    return rejected


def judge(
    lost: Ints,
    won: Ints,
    n: int | Ints,
    categories: Sequence[Category],
    policy: GatePolicy,
    since: tuple[Ints, Ints] | None = None,
    levels: Mapping[Category, float | Floats] | None = None,
    *,
    null: bool = True,
) -> Ints:
    """The decision for every draw; `since` is (lost, won) against the anchors. `levels` gives each category's alpha (per draw, or one for
    all) where it promotes; none: one look in the first attempt."""
    blocked = np.zeros(len(lost), dtype=bool)
    held = np.zeros(len(lost), dtype=bool)
    for (losses, gains), anchored in [((lost, won), False)] + ([(since, True)] if since else []):
        mean, _ = moments(losses, gains, n)
        for category in dict.fromkeys(categories):
            columns = columns_of(categories, category)
            margin = policy.anchor_budget if anchored else policy.margin(category)
            items = n if isinstance(n, int) else n[:, columns]
            alpha = levels[category] if levels else policy.level(1).alpha
            outcome = pooled_outcome(losses[:, columns], gains[:, columns], items, margin, alpha, policy.alpha, null=null)
            blocked |= outcome == BLOCK
            held |= outcome == HOLD
        proven = holm_rejects(mcnemar_p(losses, gains), policy.alpha)
        if anchored:
            proven &= mean < -policy.anchor_budget
        blocked |= (proven | (mean <= -policy.floor + 1e-12)).any(1)
    return np.where(blocked, BLOCK, np.where(held, HOLD, PASS))


def columns_of(categories: Sequence[Category], category: Category) -> list[int]:
    return [index for index, each in enumerate(categories) if each == category]


def draw(scenario: Scenario, n: int, churn: float, simulations: int, generator: np.random.Generator) -> tuple[Ints, Ints]:
    """(lost, won) item counts, draws x suites."""
    columns = []
    for loss in scenario.losses:
        columns.append(generator.multinomial(n, [churn / 2 + loss, churn / 2, 1 - churn - loss], size=simulations))
    counts = np.stack(columns, axis=1)
    return counts[..., 0], counts[..., 1]
