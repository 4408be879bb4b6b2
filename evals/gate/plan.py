"""Before training: how many held-out items does a wanted margin need, and how likely is it that an honest round passes?

    plan = plan_round(GatePolicy(), {"skill": 5, "general": 3}, items=400, churn=0.05)

`churn` is the share of items that flip between two checkpoints although nothing was lost (half right to wrong, half back). Measure it
on the lineage with `measure_churn`; it decides everything, because it is the noise of a paired comparison.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from pydantic import Field
from scipy import stats

from data_contracts.errors import ConfigError
from data_contracts.manifests import Category, Record
from evals.designs import Design, MarginDraw, null_variance
from evals.drawing import LEAST_SIZE
from evals.gate.pairing import pair_suite
from evals.gate.policy import GatePolicy, Level, Sizes
from evals.items import Evaluation
from evals.sequential import chance_by_second
from evals.statistics import reach

PAIRED: tuple[Category, ...] = ("skill", "general", "safety")


class CategoryPlan(Record):
    """The check of one category, and what so many items can show."""

    category: Category
    subject: str = Field(description="the category, or the suite that has a margin of its own")
    suites: int
    items: int = Field(description="items per suite at the first look")
    second_look_items: int = Field(description="items per suite at the second look; equal to `items` where there is none")
    drawn: int = Field(0, description="suites whose items are drawn by margin")
    even_items: int = Field(
        description="how many evenly drawn items show what those of the first look do; `items` where none is drawn by margin"
    )
    margin: float
    chance_first: float = Field(description="chance that non-inferiority is shown at the first look where nothing changed")
    chance_shown: float = Field(description="the same over both looks")
    items_needed: int = Field(description="items per suite for the policy's power over the looks that there are")
    minimum_detectable_effect: float = Field(
        description="loss of the category's mean that the last look would see with the policy's power (score units)"
    )
    chance_of_floor: float = Field(description="chance that noise alone takes at least one suite through its floor")
    chance_of_proven: float = Field(
        0.0, description="chance that noise alone proves a loss on at least one suite at the first look (Holm over all suites)"
    )


class RoundPlan(Record):
    """What to expect of the gate if the coming round loses nothing."""

    churn: float
    churn_from: str = Field("", description="the rounds that churn was measured on; empty: it was given")
    alpha: float = Field(description="chance of a wrong claim per check, over both looks of this attempt")
    power: float
    categories: tuple[CategoryPlan, ...]
    chance_first: float = Field(description="chance to pass at the first look")
    chance_all_shown: float = Field(
        description="chance that every category is shown over both looks, and that no suite falls through its floor or is found to have "
        "lost something, where nothing changed"
    )

    def sentence(self) -> str:
        """The plan in one sentence, for the command line."""
        short = [f"{each.subject}: {each.items_needed:,} items per suite" for each in self.categories if each.chance_shown < self.power]
        noise = f"where {self.churn:.1%} of the items flip by chance{f' (measured on {self.churn_from})' if self.churn_from else ''}"
        looks = ""
        if any(each.second_look_items > each.items for each in self.categories):
            looks = f", {self.chance_first:.0%} at the first look"
        drawn = [
            f"{each.items:,} of {each.subject} drawn by margin show what {each.even_items:,} even ones would"
            for each in self.categories
            if each.drawn
        ]
        looks += f", {', '.join(drawn)}" if drawn else ""
        have = f"{noise}, a round that loses nothing passes with a chance of {self.chance_all_shown:.0%}{looks} (if the skill is learned)"
        return f"{have}; for a chance of {self.power:.0%} there must be: {'; '.join(short)}" if short else f"{have}; the items suffice"


class Question(NamedTuple):
    """A check to plan: the mean of `suites` suites, `items` each at the first look, `available` in all (None: one look at `items`).

    `designs`: of the suites whose items are drawn by margin; `pool`: how many they are drawn from, where that is more than `available`.
    `singly`: (name, items at the first look) of every suite that is judged by itself too; empty: `suites` of `items`.
    """

    category: Category
    subject: str
    margin: float
    suites: int
    items: int
    available: int | None
    designs: tuple[Design, ...] = ()
    pool: int | None = None
    singly: tuple[tuple[str, int], ...] = ()

    @property
    def own(self) -> bool:
        """Whether it is about one suite that has a margin of its own."""
        return self.subject != self.category

    @property
    def each(self) -> tuple[tuple[str, int], ...]:
        return self.singly or ((self.subject, self.items),) * self.suites


def plan_round(
    policy: GatePolicy,
    suites: Mapping[Category, int],
    items: int | Mapping[Category, int],
    churn: float,
    attempts: int = 1,
    *,
    own_margins: Mapping[str, tuple[Category, float]] | None = None,
    own_items: Mapping[str, int] | None = None,
    available: Mapping[str, int] | None = None,
    draws: Mapping[str, Sequence[MarginDraw]] | None = None,
    pools: Mapping[str, int] | None = None,
    singly: Mapping[Category, Sequence[tuple[str, int]]] | None = None,
    churn_from: str = "",
) -> RoundPlan:
    """Plan a round from the number of suites per category and of items per suite. Raises ConfigError for numbers that cannot be.

    `own_margins` gives the suites (not counted in `suites`) that have a margin of their own: each is checked by itself, on its `own_items`.
    `items` are those of the first look; `available`, by category or suite with a margin of its own, says how many there are in all,
    and `draws`, keyed alike, how items are drawn by margin, one entry for each suite of which they are. `pools` says how many they are
    drawn from where the plan is not to read on in them. `singly` names the suites of a category with their items at the first look, where
    they differ or have floors of their own; there may be more of them than are averaged.
    """
    own = {name: (category, margin) for name, (category, margin) in (own_margins or {}).items() if category in PAIRED}
    counts = {category: items if isinstance(items, int) else items.get(category, 0) for category in PAIRED if suites.get(category, 0) > 0}
    if not 0.0 <= churn <= 1.0:
        raise ConfigError("plan", f"churn is {churn}", "give the share of items that flip, between 0 and 1")
    sizes, more, pool = own_items or {}, available or {}, pools or {}
    each_own = {name: sizes.get(name, items if isinstance(items, int) else items.get(category, 0)) for name, (category, _) in own.items()}
    every = [*counts.values(), *each_own.values()]
    if attempts < 1 or not every or min(every) < 2:
        raise ConfigError("plan", f"cannot plan {counts or 'no suites'} in attempt {attempts}", "give at least one suite of two items")
    designs = {name: tuple(Design.of(draw, churn) for draw in each) for name, each in (draws or {}).items()}
    asked = [
        Question(
            name, name, policy.margin(name), suites[name], n, more.get(name), designs.get(name, ()), pool.get(name),
            tuple((singly or {}).get(name, ())),
        )
        for name, n in counts.items()
    ]  # fmt: skip
    asked += [
        Question(category, name, margin, 1, each_own[name], more.get(name), designs.get(name, ()), pool.get(name))
        for name, (category, margin) in own.items()
    ]
    family = sum(n >= policy.min_items for question in asked for _, n in question.each)
    plans = tuple(_plan_question(policy, question, churn, attempts, family) for question in asked)
    kept = math.prod((1.0 - plan.chance_of_floor) * (1.0 - plan.chance_of_proven) for plan in plans)
    return RoundPlan(
        churn=churn,
        churn_from=churn_from,
        alpha=policy.attempt_alpha(attempts),
        power=policy.power,
        categories=plans,
        chance_first=kept * math.prod(plan.chance_first for plan in plans),
        chance_all_shown=kept * math.prod(plan.chance_shown for plan in plans),
    )


def _plan_question(policy: GatePolicy, question: Question, churn: float, attempt: int, family: int) -> CategoryPlan:
    category, subject, margin, suites, n, available, designs, *_ = question
    second = policy.planned_items(n, available)
    first_chance, chance = _chances(policy, question, n, second, churn, attempt)
    looks = _levels(policy, question, n, second, attempt)
    last = looks.again if second > n else looks.alpha
    first_look, last_look = (_noise(question, each, churn) for each in (n, second))
    through_floor = [_chance_through(policy, question, name, items, churn, first_look.worth / n) for name, items in question.each]
    # A suite with a margin of its own may lose that much, and one of too few items is not judged.
    judged = [] if question.own else [items for _, items in question.each if items >= policy.min_items]
    proven = [chance_of_proven_loss(items, churn, policy.alpha / family) for items in judged]
    return CategoryPlan(
        category=category,
        subject=subject,
        suites=suites,
        items=n,
        second_look_items=second,
        drawn=len(designs),
        even_items=round(first_look.worth),
        margin=margin,
        chance_first=first_chance,
        chance_shown=chance,
        items_needed=_items_for(policy, question, churn, attempt),
        minimum_detectable_effect=reach(last, policy.power) * last_look.asked,
        chance_of_floor=1.0 - math.prod(1.0 - chance for chance in through_floor),
        chance_of_proven=1.0 - math.prod(1.0 - chance for chance in proven),
    )


def _chance_through(policy: GatePolicy, question: Question, name: str, n: int, churn: float, worth: float) -> float:
    """Chance that noise takes one suite of `n` items through its floor; each item is `worth` so many evenly drawn ones."""
    floor = policy.floor_of(name, question.margin if question.own else None)
    if churn <= 0.0:
        return 0.0
    if question.designs:  # items count by their chances
        return float(stats.norm.cdf((-floor + 0.5 / n) / math.sqrt(churn / (n * worth))))
    changed = np.arange(n + 1)
    lost = np.ceil((changed + math.ceil(floor * n - 1e-9)) / 2.0)  # that take the score down to the floor where so many items changed
    return float((stats.binom.pmf(changed, n, churn) * stats.binom.sf(lost - 1, changed, 0.5)).sum())


def chance_of_proven_loss(n: int, churn: float, alpha: float, loss: float = 0.0) -> float:
    """Chance that McNemar's exact test proves a loss at `alpha` on one suite of `n` items, of which a share `churn` flips both ways alike
    and a share `loss` more is lost."""
    flips = min(1.0, churn + loss)
    if flips <= 0.0:
        return 0.0
    changed = np.arange(n + 1)
    enough = stats.binom.isf(alpha, changed, 0.5)  # more lost items than so many of those that changed prove a loss
    lost = stats.binom.sf(enough, changed, (churn / 2.0 + loss) / (churn + loss))
    return float((stats.binom.pmf(changed, n, flips) * lost).sum())


class Noise(NamedTuple):
    """Standard errors of a category's mean where nothing changed: `seen` is its own, `asked` the one that the gate reckons with where a
    loss of the margin is to be ruled out (statistics.with_null_variance). `worth`: evenly drawn items per suite that have the first."""

    seen: float
    asked: float
    worth: float


def _noise(question: Question, n: int, churn: float) -> Noise:
    """The noise of a look at `n` items per suite."""
    pool, evenly = max(n, question.pool or question.available or n), question.suites - len(question.designs)

    def mean_of(margin: float | None) -> float:
        """Evenly drawn items with the precision of the suites' mean."""
        return question.suites / (evenly / n + sum(1.0 / design.worth(n, pool, margin) for design in question.designs))

    worth = mean_of(None)
    null = null_variance(churn, question.margin)
    return Noise(math.sqrt(churn / (worth * question.suites)), math.sqrt(null / (mean_of(question.margin) * question.suites)), worth)


def _levels(policy: GatePolicy, question: Question, first: int, second: int, attempt: int) -> Level:
    """The levels of both looks (gate.decide.sizes_of)."""
    sizes = [Sizes(first, second, first)]
    if question.designs and second > first:
        sizes.append(Sizes(first, math.ceil(max(second, question.available or second) / LEAST_SIZE), first))
    return policy.level(attempt, sizes)


def _chances(policy: GatePolicy, question: Question, first: int, second: int, churn: float, attempt: int) -> tuple[float, float]:
    """Chance that the check is shown where nothing changed: at the first look, and over both."""
    if second < policy.min_items:
        return 0.0, 0.0  # too few to show anything, whatever the margin
    levels, looks = _levels(policy, question, first, second, attempt), [_noise(question, n, churn) for n in (first, second)]
    shifts = [_beyond(look, level, question.margin) for look, level in zip(looks, levels, strict=True)]
    if first < policy.min_items:
        shifts[0] = -math.inf
    at_first = float(stats.norm.cdf(shifts[0] - stats.norm.isf(levels.alpha)))
    if second <= first:
        return at_first, at_first
    # What the second look reads has the first look's items in it: their correlation is that of the noise.
    fraction = min(looks[0].worth / looks[1].worth, 1.0 - 1e-9)
    return at_first, max(at_first, chance_by_second((levels.alpha, levels.again), (shifts[0], shifts[1]), fraction))


def _beyond(look: Noise, alpha: float, margin: float) -> float:
    """How many of its own standard errors the mean lies beyond the bound of `alpha`, if nothing changed, where it had that error only."""
    bound = float(stats.norm.isf(alpha))
    return bound + (margin - bound * look.asked) / max(look.seen, 1e-9)


def _items_for(policy: GatePolicy, question: Question, churn: float, attempt: int) -> int:
    """Smallest number of items per suite with the policy's power, by bisection: read at once, or in two looks where there are two."""

    def enough(n: int) -> bool:
        first = n if question.available is None else max(min(question.items, n), math.ceil(n / policy.second_look))
        asked = question._replace(pool=None, available=None if question.available is None else n)
        return _chances(policy, asked, first, n, churn, attempt)[1] >= policy.power

    low, high = 1, 2
    while not enough(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def margin_shown_by(policy: GatePolicy, items: int, churn: float) -> float:
    """The smallest margin of its own, in points without decimals, that a suite of so many items shows with the policy's power where nothing
    was lost. A suite with a margin of its own is judged alone, however many others there are."""
    for points in range(1, 100):
        question = Question("skill", "", points / 100, 1, items, None)
        if _chances(policy, question, items, items, churn, 1)[1] >= policy.power:
            return points / 100
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
        shares.append(float(np.average(pair.d**2, weights=None if pair.drawn_from is None else pair.candidate.weight)))
    if not shares:
        raise ConfigError(
            "plan",
            "the two evaluations share no suite to measure churn on",
            "give two evaluations of the same lineage, or churn as a number",
        )
    return sum(shares) / len(shares)
