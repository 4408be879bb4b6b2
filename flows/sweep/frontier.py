"""Choose one of a sweep's points by learning and forgetting. Pure.

Forgetting is measured as a share of the gate's margin (1.0: all of the margin is used), where most of one is used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import Field

from data_contracts.manifests import Category, EvalReport, Record, SuiteResult
from evals.gate.policy import GatePolicy
from evals.numbers import plain

SUFFIX = ".tuning"
"""Ends the name of every suite of the tuning split."""


class Setting(Record):
    """How one update of a sweep is trained. `passes` None: as the config has it, which may be until the loss has settled."""

    ratio: float = Field(description="unfreeze_rank_ratio")
    learning_rate: float = Field(description="peak step size")
    passes: int | None = Field(description="passes over the drop, where the sweep or the config says how many")

    def __str__(self) -> str:
        passes = "" if self.passes is None else f" passes {self.passes}"
        return f"ratio {self.ratio:g} rate {plain(self.learning_rate)}{passes}"


class SweepPoint(Record):
    """One candidate of a sweep, measured on the tuning split."""

    setting: Setting
    steps: int = Field(description="optimiser steps of its training")
    scale: float = Field(description="factor of the trained update")
    learned: float = Field(description="score on the new skill's tuning rows")
    gain: float = Field(description="this score minus the champion's")
    n: int = Field(description="tuning rows of the new skill")
    forgetting: float = Field(description="largest share of a margin that is used; 0 if nothing was lost")
    losses: dict[str, float] = Field(
        description="loss by suite, positive is worse: of the score; for drift the relative rise of bits per byte"
    )
    model_sha256: str


class Choice(Record):
    """The chosen point, the Pareto frontier, and the reason. No point: none that was tried could be promoted."""

    point: SweepPoint | None
    frontier: tuple[SweepPoint, ...]
    reason: str
    next: tuple[str, ...] = Field((), description="what to try where no point is chosen")


class SweepTable(Record):
    """The content of a sweep's file."""

    skill: str
    points: tuple[SweepPoint, ...]
    choice: Choice
    notes: tuple[str, ...]


def table_file(state_dir: Path, skill: str, month: str) -> Path:
    """Where the newest sweep of a skill in a month is written."""
    return state_dir / "reports" / f"sweep-{skill}-{month}.json"


def measure_point(
    setting: Setting, steps: int, scale: float, candidate: EvalReport, champion: EvalReport, learning: str, policy: GatePolicy
) -> SweepPoint:  # fmt: skip
    """Compare a candidate's tuning report with the champion's. `learning` names the suite of the new skill."""
    before = {suite.name: suite for suite in champion.suites}
    kept = [suite for suite in candidate.suites if suite.name != learning]
    losses = {suite.name: loss_of(suite, before[suite.name]) for suite in kept}
    own = candidate.suite(learning)
    return SweepPoint(
        setting=setting,
        steps=steps,
        scale=scale,
        learned=own.score,
        gain=own.score - before[learning].score,
        n=own.n,
        forgetting=share_of_margin(kept, losses, policy),
        losses=losses,
        model_sha256=candidate.model_sha256,
    )


def loss_of(after: SuiteResult, before: SuiteResult) -> float:
    """How much worse a suite became: the relative rise of bits per byte, or what the score moved against its direction."""
    if after.category == "drift":
        return (after.score - before.score) / before.score
    return before.score - after.score if after.higher_is_better else after.score - before.score


def share_of_margin(suites: Sequence[SuiteResult], losses: Mapping[str, float], policy: GatePolicy) -> float:
    """The largest share of a margin that is used. As the gate asks: the suites of a category by their mean; those with a margin of their
    own, and texts, each by itself."""
    pooled: dict[Category, list[float]] = {}
    shares = [0.0]
    for suite in suites:
        loss = losses[suite.name]
        if suite.category == "drift":
            shares.append(loss / policy.drift_limits(suite.margin)[0])
        elif suite.margin is not None:
            shares.append(loss / suite.margin)
        else:
            pooled.setdefault(suite.category, []).append(loss)
    shares += [sum(values) / len(values) / policy.margin(category) for category, values in pooled.items()]
    return max(shares)


def frontier(points: Sequence[SweepPoint]) -> tuple[SweepPoint, ...]:
    """The Pareto frontier: points that no other point beats in both learning and forgetting, least forgetting first."""
    kept = [
        point
        for point in points
        if not any(
            other.learned >= point.learned
            and other.forgetting <= point.forgetting
            and (other.learned, -other.forgetting) != (point.learned, -point.forgetting)
            for other in points
        )
    ]
    return tuple(sorted(kept, key=lambda point: (point.forgetting, -point.learned)))


def choose(points: Sequence[SweepPoint]) -> Choice:
    """Of the points within all margins, the one with the least forgetting whose score is within a standard error of the best.

    None where no point learned the skill, and where every one that did lost more than a margin: the gate is not asked about a point that is
    known to break one.
    """
    edge = frontier(points)
    within = [point for point in edge if point.forgetting <= 1.0 and point.gain > 0.0]
    if not within:
        return _no_choice(edge)
    best = max(within, key=lambda point: point.learned)
    error = math.sqrt(best.learned * (1.0 - best.learned) / best.n) if 0.0 < best.learned < 1.0 else 0.0
    good = [point for point in within if point.learned >= best.learned - error]
    chosen = min(good, key=lambda point: (point.forgetting, -point.learned))
    reason = "learns most of those within all margins"
    if chosen != best:
        reason = f"within a standard error ({100 * error:.1f} points) of the best score within the margins, and forgets less"
    return Choice(point=chosen, frontier=edge, reason=reason)


def _no_choice(edge: Sequence[SweepPoint]) -> Choice:
    learning = [point for point in edge if point.gain > 0.0]
    if not learning:
        best = max(edge, key=lambda point: point.learned)
        longer = (
            f"--passes {3 * best.setting.passes}"
            if best.setting.passes
            else f"more rows, or --rates {plain(2 * best.setting.learning_rate)}"
        )
        reason = f"No point learned the skill; the best score is {100 * best.learned:.1f}, after {best.steps} steps at {best.setting}."
        return Choice(point=None, frontier=tuple(edge), reason=reason, next=(f"Train longer or faster: {longer}.",))
    least = learning[0]
    reason = (
        f"Every point that learns exceeds a margin; {least.setting}, scale {least.scale:g} loses least ({100 * least.forgetting:.0f} %)."
    )
    lower = f"Lower rates: --rates {plain(least.setting.learning_rate / 10, 2)},{plain(least.setting.learning_rate / 3, 2)}."
    return Choice(point=None, frontier=tuple(edge), reason=reason, next=(lower, "Shares of each update: --scales 0.5,0.75,1."))
