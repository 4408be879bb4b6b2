"""The automatic second look: what an INCONCLUSIVE round gains when the flow evaluates more items, and what that costs in size.

Today's design fixes the number of items beforehand and shares alpha between the looks. Beside it, for comparison, that of rules 3: as many
items as the first look asked for, and a quarter of alpha.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from gate_rules import HOLD, PASS, Floats, Ints, Scenario, columns_of, draw, judge, moments, pooled_outcome, pooled_variance

from data_contracts.manifests import Category
from evals.gate.policy import GatePolicy, Sizes
from evals.statistics import reach

ASKED_FOR_POWER = 0.95  # rules 3: chance to decide that the items of the second look were asked for


@dataclass(frozen=True)
class Look:
    """Shares of PASS, BLOCK and HOLD after one look and after two, and items per suite that two looks used on average."""

    once: Floats
    twice: Floats
    items: float


def look_twice(
    scenario: Scenario,
    n: int,
    available: int,
    churn: float,
    categories: Sequence[Category],
    simulations: int,
    policy: GatePolicy,
    generator: np.random.Generator,
) -> Look:
    """Judge at n items per suite; where that is INCONCLUSIVE, and could be shown, judge what is held once more on all that was fixed."""
    lost, won = draw(scenario, n, churn, simulations, generator)
    planned = policy.planned_items(n, available)
    level = policy.level(1, [Sizes(n, planned, n)])
    kinds = tuple(dict.fromkeys(categories))
    first = judge(lost, won, n, categories, policy, levels=dict.fromkeys(kinds, level.alpha))
    sizes = np.full(lost.shape, n, dtype=np.int64)
    hopeless = np.zeros(simulations, dtype=bool)
    levels: dict[Category, float | Floats] = {}
    for category in kinds:
        columns = columns_of(categories, category)
        held = held_at_first(lost[:, columns], won[:, columns], n, policy.margin(category), level.alpha)
        hopeless |= held & ~above(lost[:, columns], won[:, columns], n, policy.margin(category))
        sizes[:, columns] = np.where(held, planned, n)[:, None]
        levels[category] = np.where(held, level.again, level.alpha)
    again = (first == HOLD) & ~hopeless & (sizes > n).any(1)
    sizes[~again] = n
    lost, won = read_more(lost, won, sizes - n, scenario, churn, generator)
    last = np.where(again, judge(lost, won, sizes, categories, policy, levels=levels), first)
    shares = [np.bincount(decisions, minlength=3) / simulations for decisions in (first, last)]
    return Look(shares[0], shares[1], float(sizes.mean()))


def look_twice_by_rules_3(
    scenario: Scenario,
    n: int,
    available: int,
    churn: float,
    categories: Sequence[Category],
    simulations: int,
    policy: GatePolicy,
    generator: np.random.Generator,
) -> Look:
    """The same by rules 3: with the items that the first look asks for, everything at a quarter of alpha."""
    lost, won = draw(scenario, n, churn, simulations, generator)
    first = judge(lost, won, n, categories, policy, null=False)
    sizes = np.full(lost.shape, n, dtype=np.int64)
    for category in dict.fromkeys(categories):
        columns = columns_of(categories, category)
        wanted = items_asked_for(lost[:, columns], won[:, columns], n, policy.margin(category), policy)
        sizes[:, columns] = np.clip(wanted, n, available)[:, None]
    sizes[first != HOLD] = n
    again = (sizes > n).any(1)
    lost, won = read_more(lost, won, sizes - n, scenario, churn, generator)
    quarter = dict.fromkeys(categories, policy.alpha / 4)
    last = np.where(again, judge(lost, won, sizes, categories, policy, levels=quarter, null=False), first)
    shares = [np.bincount(decisions, minlength=3) / simulations for decisions in (first, last)]
    return Look(shares[0], shares[1], float(sizes.mean()))


def read_more(lost: Ints, won: Ints, more: Ints, scenario: Scenario, churn: float, generator: np.random.Generator) -> tuple[Ints, Ints]:
    """The counts after `more` further items of each suite (draws x suites)."""
    lost, won = lost.copy(), won.copy()
    for column, loss in enumerate(scenario.losses):
        drawn = generator.multinomial(more[:, column], [churn / 2 + loss, churn / 2, 1 - churn - loss])
        lost[:, column] += drawn[:, 0]
        won[:, column] += drawn[:, 1]
    return lost, won


def above(lost: Ints, won: Ints, n: int, margin: float) -> np.ndarray:
    """Whether more items could show the category: its mean is above the margin (statistics.items_needed)."""
    return np.asarray(moments(lost, won, n)[0].mean(1) > -margin)


def held_at_first(lost: Ints, won: Ints, n: int, margin: float, alpha: float) -> np.ndarray:
    return np.asarray(pooled_outcome(lost, won, n, margin, alpha) == HOLD)


def items_asked_for(lost: Ints, won: Ints, n: int, margin: float, policy: GatePolicy) -> Ints:
    """Rules 3: items per suite that decide a held category; n where it is not held, or none would."""
    mean, _ = moments(lost, won, n)
    spread, suites = pooled_variance(lost, won, n, margin, null=False), lost.shape[1]
    gap = np.minimum(mean.mean(1), 0.0) + margin
    standard_errors = reach(policy.alpha / 4, ASKED_FOR_POWER)
    with np.errstate(divide="ignore"):
        needed = np.where(gap > 0, np.ceil(n * (standard_errors * np.sqrt(spread) / np.maximum(gap, 1e-12)) ** 2), n)
    held = pooled_outcome(lost, won, n, margin, policy.alpha, null=False) == HOLD
    return np.where(held, np.minimum(np.maximum(needed, n + np.ceil(1 / suites)), 1e9), n).astype(np.int64)


def size_of_two_looks(
    suites: int, n: int, available: int, churn: float, simulations: int, policy: GatePolicy, generator: np.random.Generator
) -> tuple[float, float]:
    """P(one category is shown) at a true mean loss of the margin, after one look and after two."""
    margin = policy.margin("skill")
    scenario = Scenario("at the margin", (margin,) * suites)
    lost, won = draw(scenario, n, churn, simulations, generator)
    planned = policy.planned_items(n, available)
    level = policy.level(1, [Sizes(n, planned, n)])
    first = pooled_outcome(lost, won, n, margin, level.alpha) == PASS
    lost, won = read_more(lost, won, np.full(lost.shape, planned - n), scenario, churn, generator)
    second = (pooled_outcome(lost, won, planned, margin, level.again) == PASS) if planned > n else first
    return float(first.mean()), float((first | second).mean())


def size_by_rules_3(
    suites: int, n: int, available: int, churn: float, simulations: int, policy: GatePolicy, generator: np.random.Generator
) -> tuple[float, float]:
    """The same by rules 3."""
    margin = policy.margin("skill")
    scenario = Scenario("at the margin", (margin,) * suites)
    lost, won = draw(scenario, n, churn, simulations, generator)
    first = pooled_outcome(lost, won, n, margin, policy.alpha, null=False) == PASS
    sizes = np.clip(items_asked_for(lost, won, n, margin, policy), n, available)
    each = np.broadcast_to(sizes[:, None], lost.shape)
    lost, won = read_more(lost, won, each - n, scenario, churn, generator)
    second = pooled_outcome(lost, won, each, margin, policy.alpha / 4, null=False) == PASS
    return float(first.mean()), float((first | ((sizes > n) & second)).mean())
