"""Before training: how many held-out items does a wanted margin need, and how likely is it that an honest round passes?

    plan = plan_round(GatePolicy(), {"skill": 5, "general": 3}, items=400, churn=0.05)

`churn` is the share of items that flip between two checkpoints although nothing was lost (half right to wrong, half back). Measure it
on the lineage with `measure_churn`; it decides everything, because it is the noise of a paired comparison.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from pydantic import Field
from scipy import stats

from data_contracts.errors import ConfigError
from data_contracts.manifests import Category, Record
from evals.gate.pairing import pair_suite
from evals.gate.policy import GatePolicy
from evals.items import Evaluation

PAIRED: tuple[Category, ...] = ("skill", "general", "safety")


class CategoryPlan(Record):
    """The check of one category, and what so many items can show."""

    category: Category
    subject: str = Field(description="the category, or the suite that has a margin of its own")
    suites: int
    items: int = Field(description="items per suite")
    margin: float
    chance_shown: float = Field(description="chance that non-inferiority is shown where nothing changed")
    items_needed: int = Field(description="items per suite for the policy's power")
    minimum_detectable_effect: float = Field(
        description="loss of the category's mean that would be seen with the policy's power (score units)"
    )
    chance_of_floor: float = Field(description="chance that noise alone takes at least one suite through the floor")


class RoundPlan(Record):
    """What to expect of the gate if the coming round loses nothing."""

    churn: float
    churn_from: str = Field("", description="the rounds that churn was measured on; empty: it was given")
    alpha: float
    power: float
    categories: tuple[CategoryPlan, ...]
    chance_all_shown: float = Field(
        description="chance that every category is shown, and no suite falls through the floor, where nothing changed"
    )

    def sentence(self) -> str:
        """The plan in one sentence, for the command line."""
        short = [f"{each.subject}: {each.items_needed:,} items per suite" for each in self.categories if each.items < each.items_needed]
        noise = f"where {self.churn:.1%} of the items flip by chance{f' (measured on {self.churn_from})' if self.churn_from else ''}"
        have = f"{noise}, a round that loses nothing passes with a chance of {self.chance_all_shown:.0%} (if the skill is learned)"
        return f"{have}; for a chance of {self.power:.0%} there must be: {'; '.join(short)}" if short else f"{have}; the items suffice"


def plan_round(
    policy: GatePolicy,
    suites: Mapping[Category, int],
    items: int | Mapping[Category, int],
    churn: float,
    attempts: int = 1,
    *,
    own_margins: Mapping[str, tuple[Category, float]] | None = None,
    own_items: Mapping[str, int] | None = None,
    churn_from: str = "",
) -> RoundPlan:
    """Plan a round from the number of suites per category and of items per suite. Raises ConfigError for numbers that cannot be.

    `own_margins` gives the suites (not counted in `suites`) that have a margin of their own: each is checked by itself, on its `own_items`.
    """
    own = {name: (category, margin) for name, (category, margin) in (own_margins or {}).items() if category in PAIRED}
    counts = {category: items if isinstance(items, int) else items.get(category, 0) for category in PAIRED if suites.get(category, 0) > 0}
    if not 0.0 <= churn <= 1.0:
        raise ConfigError("plan", f"churn is {churn}", "give the share of items that flip, between 0 and 1")
    sizes = own_items or {}
    each_own = {name: sizes.get(name, items if isinstance(items, int) else items.get(category, 0)) for name, (category, _) in own.items()}
    every = [*counts.values(), *each_own.values()]
    if attempts < 1 or not every or min(every) < 2:
        raise ConfigError("plan", f"cannot plan {counts or 'no suites'} in attempt {attempts}", "give at least one suite of two items")
    alpha = policy.level(attempts).alpha
    together = [
        _plan_question(policy, category, category, policy.margin(category), suites[category], n, churn, alpha)
        for category, n in counts.items()
    ]
    alone = [_plan_question(policy, category, name, margin, 1, each_own[name], churn, alpha) for name, (category, margin) in own.items()]
    plans = (*together, *alone)
    chance = math.prod(plan.chance_shown * (1.0 - plan.chance_of_floor) for plan in plans)
    return RoundPlan(churn=churn, churn_from=churn_from, alpha=alpha, power=policy.power, categories=plans, chance_all_shown=chance)


def _plan_question(
    policy: GatePolicy, category: Category, subject: str, margin: float, suites: int, n: int, churn: float, alpha: float
) -> CategoryPlan:
    """`margin` applies to the mean of `suites` suites; a suite whose subject is not its category has a margin of its own."""
    reach = float(stats.norm.isf(alpha)) + float(stats.norm.ppf(policy.power))
    error = math.sqrt(_item_variance(churn, n, margin) / (n * suites))
    alone = math.sqrt(_item_variance(churn, n, 0.0) / n)
    floor = policy.floor_of(subject, margin if subject != category else None)
    through_floor = float(stats.norm.cdf((-floor + 0.5 / n) / alone)) if churn > 0 else 0.0
    return CategoryPlan(
        category=category,
        subject=subject,
        suites=suites,
        items=n,
        margin=margin,
        chance_shown=float(stats.norm.cdf(margin / error - stats.norm.isf(alpha))),
        items_needed=_items_for(margin, churn, suites, reach),
        minimum_detectable_effect=reach * error,
        chance_of_floor=1.0 - (1.0 - through_floor) ** suites,
    )


def _item_variance(churn: float, n: int, margin: float) -> float:
    """Variance of one paired difference as the gate takes it (statistics.paired_difference and not_below_null_variance)."""
    return max((n * churn + 1.0) / (n + 2.0), margin - margin**2)


def _items_for(margin: float, churn: float, suites: int, reach: float) -> int:
    """Smallest n with reach * sqrt(variance(n) / (n * suites)) <= margin, by bisection."""
    low, high = 1, 2
    while reach * math.sqrt(_item_variance(churn, high, margin) / (high * suites)) > margin:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (
            (low, middle) if reach * math.sqrt(_item_variance(churn, middle, margin) / (middle * suites)) <= margin else (middle, high)
        )
    return high


def margin_shown_by(policy: GatePolicy, items: int, churn: float, suites: int = 1, attempts: int = 1) -> float:
    """The smallest margin, in points without decimals, that so many items per suite show with the policy's power where nothing was lost."""
    reach = float(stats.norm.isf(policy.level(attempts).alpha)) + float(stats.norm.ppf(policy.power))
    for points in range(1, 100):
        margin = points / 100
        if reach * math.sqrt(_item_variance(churn, items, margin) / (items * suites)) <= margin:
            return margin
    return 1.0


def measure_churn(candidate: Evaluation, champion: Evaluation) -> float:
    """Share of items whose score changed between two checkpoints, mean over the suites that both have (drift and sealed splits aside).

    Raises ConfigError where they share no such suite.
    """
    shares = []
    for name, items in candidate.suites.items():
        other = champion.suites.get(name)
        if other is None or items.category == "drift" or items.result.sealed or set(items.doc_hash) != set(other.doc_hash):
            continue
        pair = pair_suite(items, other, champion.model_sha256)
        shares.append(float((pair.d**2).mean()))
    if not shares:
        raise ConfigError(
            "plan",
            "the two evaluations share no suite to measure churn on",
            "give two evaluations of the same lineage, or churn as a number",
        )
    return sum(shares) / len(shares)
