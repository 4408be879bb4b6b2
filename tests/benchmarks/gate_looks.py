"""The automatic second look: what an INCONCLUSIVE round gains when the flow evaluates more items, and what that costs in size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from gate_rules import HOLD, PASS, Floats, Ints, Scenario, draw, judge, moments, pooled_outcome, pooled_variance

from data_contracts.manifests import Category
from evals.gate.decide import SECOND_LOOK_POWER, GatePolicy
from evals.statistics import reach


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
    """Judge at n items per suite; where that is INCONCLUSIVE, once more with the items that the gate asks for, at a quarter of alpha."""
    lost, won = draw(scenario, n, churn, simulations, generator)
    first = judge(lost, won, n, categories, policy)
    sizes = np.full(lost.shape, n, dtype=np.int64)
    for category in dict.fromkeys(categories):
        columns = [index for index, each in enumerate(categories) if each == category]
        wanted = items_asked_for(lost[:, columns], won[:, columns], n, policy.margin(category), policy)
        sizes[:, columns] = np.clip(wanted, n, available)[:, None]
    sizes[first != HOLD] = n
    again = (sizes > n).any(1)
    for column, loss in enumerate(scenario.losses):
        more = generator.multinomial(sizes[:, column] - n, [churn / 2 + loss, churn / 2, 1 - churn - loss])
        lost[:, column] += more[:, 0]
        won[:, column] += more[:, 1]
    second = judge(lost, won, sizes, categories, policy, attempts=2)
    last = np.where(again, second, first)
    shares = [np.bincount(decisions, minlength=3) / simulations for decisions in (first, last)]
    return Look(shares[0], shares[1], float(sizes.mean()))


def items_asked_for(lost: Ints, won: Ints, n: int, margin: float, policy: GatePolicy) -> Ints:
    """Items a suite that decide a held category (gate.items_wanted); n where it is not held, or none would."""
    mean, variance = moments(lost, won, n)
    spread, suites = pooled_variance(variance, n, margin), lost.shape[1]
    gap = np.minimum(mean.mean(1), 0.0) + margin
    standard_errors = reach(policy.level(1).again, SECOND_LOOK_POWER)
    with np.errstate(divide="ignore"):
        needed = np.where(gap > 0, np.ceil(n * (standard_errors * np.sqrt(spread) / np.maximum(gap, 1e-12)) ** 2), n)
    held = pooled_outcome(mean, variance, n, margin, policy.alpha) == HOLD
    return np.where(held, np.minimum(np.maximum(needed, n + np.ceil(1 / suites)), 1e9), n).astype(np.int64)


def size_of_two_looks(
    suites: int, n: int, available: int, churn: float, simulations: int, policy: GatePolicy, generator: np.random.Generator
) -> tuple[float, float]:
    """P(one category is shown) at a true mean loss of the margin, after one look and after two."""
    scenario = Scenario("at the margin", (policy.margin("skill"),) * suites)
    lost, won = draw(scenario, n, churn, simulations, generator)
    margin = policy.margin("skill")
    first = pooled_outcome(*moments(lost, won, n), n, margin, policy.alpha) == PASS
    sizes = np.clip(items_asked_for(lost, won, n, margin, policy), n, available)
    more = np.stack([generator.multinomial(sizes - n, [churn / 2 + margin, churn / 2, 1 - churn - margin]) for _ in range(suites)], axis=1)
    lost, won = lost + more[..., 0], won + more[..., 1]
    each = np.broadcast_to(sizes[:, None], lost.shape)
    second = pooled_outcome(*moments(lost, won, each), each, margin, policy.level(2).alpha) == PASS
    return float(first.mean()), float((first | ((sizes > n) & second)).mean())
