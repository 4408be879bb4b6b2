"""What the gate requires: section `gate` of skillstack.yaml. Differences are in score units, so 0.02 is two points of accuracy."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from data_contracts.manifests import Category


class Level(NamedTuple):
    """Chance of a wrong claim, one-sided: of this attempt, and of another look at more items, which would be the next attempt."""

    alpha: float
    again: float


class GatePolicy(BaseModel):
    """Every number the decision depends on. It is stored in full in each verdict, so that an old verdict can be recomputed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rules: Literal[2] = Field(
        2, description="version of the gate's rules and sentences; a verdict is replayed by the release that has its version"
    )
    alpha: float = Field(
        0.05,
        gt=0,
        lt=0.5,
        description="chance of a wrong claim, one-sided, a question; divided by the square of the attempt where it promotes",
    )
    margin_skill: float = Field(
        0.02, gt=0, lt=1, description="mean loss over earlier skills that must be ruled out (score units: 0.02 = 2 points)"
    )
    margin_general: float = Field(0.02, gt=0, lt=1, description="the same for general suites")
    margin_safety: float = Field(0.01, gt=0, lt=1, description="the same for safety suites")
    floor: float = Field(0.05, gt=0, le=1, description="observed loss on one suite that blocks whatever its p-value (score units)")
    floors: dict[str, float] = Field(default_factory=dict, description="another floor for a suite, by name (score units)")
    anchor_budget: float = Field(
        0.03, gt=0, lt=1, description="cumulative loss against the anchors, of a category and of a suite (score units)"
    )
    drift_limit: float = Field(0.01, gt=0, lt=1, description="relative rise of bits per byte that must be ruled out (0.01 = 1 %)")
    drift_budget: float = Field(0.03, gt=0, lt=1, description="the same against the anchor, over all rounds since")
    min_gain: float = Field(0.0, ge=0, lt=1, description="gain on the new skill's own suite that must be exceeded (score units)")
    min_items: int = Field(30, ge=2, description="a suite with fewer items is reported and decides nothing (items)")
    required_suites: tuple[str, ...] = Field((), description="names of suites without which there is no decision")
    power: float = Field(0.8, gt=0.5, lt=1, description="chance of seeing what is there, for minimum detectable effects and items needed")

    def level(self, attempt: int) -> Level:
        """Alpha of an attempt: alpha / attempt**2, so that all attempts there may ever be add up to less than 1.65 alpha."""
        return Level(self.alpha / attempt**2, self.alpha / (attempt + 1) ** 2)

    def margin(self, category: Category) -> float:
        """The margin of a category's pooled non-inferiority. Drift has its own limit."""
        return {"skill": self.margin_skill, "general": self.margin_general, "safety": self.margin_safety, "drift": self.drift_limit}[
            category
        ]

    def floor_of(self, suite: str, own_margin: float | None = None) -> float:
        """The observed loss that blocks a suite: the one named for it, else the policy's or the suite's own margin, whichever is larger."""
        return self.floors.get(suite, max(self.floor, own_margin or 0.0))

    def budget_of(self, own_margin: float | None) -> float:
        """What a suite may lose over all rounds: a suite that may lose more than the budget in one round may lose that much in all."""
        return max(self.anchor_budget, own_margin or 0.0)

    def drift_limits(self, own_margin: float | None) -> tuple[float, float]:
        """Relative rise of bits per byte that is tolerated in a round, and over all rounds."""
        limit = self.drift_limit if own_margin is None else own_margin
        return limit, max(self.drift_budget, limit)
