"""What the gate requires: section `gate` of skillstack.yaml. Differences are in score units, so 0.02 is two points of accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from data_contracts.manifests import Category
from evals.sequential import second_look_alpha

Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Why = Annotated[str, StringConstraints(strip_whitespace=True, min_length=3)]


FIRST_SHARE = 0.8
"""Of an attempt's chance of a wrong claim, what the first look spends where a second one can follow."""
LATER_SHARE = 0.2
"""What all later attempts at a round may spend together, of the first attempt's chance."""


class Level(NamedTuple):
    """Chance of a wrong claim, one-sided: of this look, and of the look at more items that would follow it."""

    alpha: float
    again: float


class Sizes(NamedTuple):
    """Items of one suite: at the first look, at the second (equal where there are no more), and now."""

    first: int
    second: int
    now: int


class GatePolicy(BaseModel):
    """Every number the decision depends on. All of it is stored in each verdict, so that an old verdict can be recomputed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rules: Literal[6] = Field(6, description="version of the gate's rules and sentences; a verdict is replayed by the rules that made it")
    alpha: float = Field(
        0.05,
        gt=0,
        lt=0.5,
        description="chance of a wrong claim, one-sided, per check, over both looks of the first attempt; all later attempts at the round "
        "together have a fifth of it for checks that promote",
    )
    second_look: float = Field(
        4.0,
        ge=1,
        le=100,
        description="a round that is INCONCLUSIVE is judged once more with up to so many times the items (4 = four times; 1 = never)",
    )
    margin_skill: float = Field(
        0.02, gt=0, lt=1, description="mean loss over earlier skills that must be ruled out (score units: 0.02 = 2 points)"
    )
    margin_general: float = Field(0.02, gt=0, lt=1, description="the same for general suites")
    margin_safety: float = Field(0.01, gt=0, lt=1, description="the same for safety suites")
    floor: float = Field(0.05, gt=0, le=1, description="observed loss on one suite that blocks whatever its p-value (score units)")
    floors: dict[str, Share] = Field(default_factory=dict, description="another floor for a suite, by name (score units)")
    anchor_budget: float = Field(
        0.03, gt=0, lt=1, description="cumulative loss against the anchors, of a category and of a suite (score units)"
    )
    drift_limit: float = Field(0.01, gt=0, lt=1, description="relative rise of bits per byte that must be ruled out (0.01 = 1 %)")
    drift_budget: float = Field(0.03, gt=0, lt=1, description="the same against the anchor, over all rounds since")
    min_gain: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="gain on the new skill's own suite that it is shown to exceed (score units: 0.05 = 5 points)",
    )
    min_learned: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="how far from chance to a perfect score the new skill must get (0.5: with four equally common answers a score of 62.5)",
    )
    min_scores: dict[str, Share] = Field(
        default_factory=dict, description="the score that a skill must reach, by name, instead of min_learned (0.9 = 90 %)"
    )
    min_items: int = Field(30, ge=2, description="a suite with fewer items cannot show that nothing was lost (items)")
    required_suites: tuple[str, ...] = Field((), description="names of suites without which there is no decision")
    accept_unmeasured: tuple[Category, ...] = Field(
        (), description="categories that may stay unmeasured (general, skill, safety, drift); every report repeats them"
    )
    retired_suites: dict[str, Why] = Field(
        default_factory=dict,
        description="suites, or their earlier items, that are no longer measured, each with the reason; every report repeats them",
    )
    power: float = Field(0.8, gt=0.5, lt=1, description="chance of seeing what is there, for minimum detectable effects and items needed")

    def attempt_alpha(self, attempt: int) -> float:
        """Chance of a wrong claim of an attempt, over both its looks: alpha, then alpha / 5 times 1/2, 1/6, 1/12 ..., which add up to 1."""
        return self.alpha if attempt == 1 else LATER_SHARE * self.alpha / (attempt * (attempt - 1))

    def planned_items(self, n: int, available: int | None) -> int:
        """Items of a suite at the second look, fixed by the first look's `n` and by what there is, never by what was found."""
        return max(n, min(available or n, math.ceil(self.second_look * n)))

    def level(self, attempt: int, suites: Sequence[Sizes] = ()) -> Level:
        """The level of a check that reads `suites`; none: one look at all there is.

        Both looks together claim wrongly with the attempt's chance. A check none of whose suites has grown since the first look reads the
        same items as then, so it keeps the first look's level. Where suites grow by different factors, the largest growth counts for all:
        less correlation than there is makes the second look stricter, never more lenient.
        """
        total, after = self.attempt_alpha(attempt), self.attempt_alpha(attempt + 1)
        planned = min((each.first / each.second for each in suites), default=1.0)
        if planned >= 1.0:
            return Level(total, after)
        first = FIRST_SHARE * total
        grown = min(each.first / each.now for each in suites)
        if grown < 1.0:
            return Level(second_look_alpha(total, first, grown), after)
        return Level(first, second_look_alpha(total, first, planned))

    def margin(self, category: Category) -> float:
        """The margin of a category's pooled non-inferiority. Drift has its own limit."""
        return {"skill": self.margin_skill, "general": self.margin_general, "safety": self.margin_safety, "drift": self.drift_limit}[
            category
        ]

    def floor_of(self, suite: str, own_margin: float | None = None) -> float:
        """The observed loss that blocks a suite: the one named for it, else the policy's or the suite's own margin, whichever is larger."""
        return self.floors.get(suite, max(self.floor, own_margin or 0.0))

    def target_of(self, skill: str, guessing: float) -> float:
        """The score that the new skill must reach; `guessing` is what always giving the commonest answer scores."""
        return self.min_scores.get(skill, guessing + self.min_learned * (1.0 - guessing))

    def budget_of(self, own_margin: float | None) -> float:
        """What a suite may lose over all rounds: a suite that may lose more than the budget in one round may lose that much in all."""
        return max(self.anchor_budget, own_margin or 0.0)

    def drift_limits(self, own_margin: float | None) -> tuple[float, float]:
        """Relative rise of bits per byte that is tolerated in a round, and over all rounds."""
        limit = self.drift_limit if own_margin is None else own_margin
        return limit, max(self.drift_budget, limit)
