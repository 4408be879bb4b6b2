"""Choose one of a sweep's points by learning and forgetting. Pure.

Forgetting is measured as a share of the gate's margin (1.0: all of the margin is used), in the worst category.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pydantic import Field

from data_contracts.manifests import Category, EvalReport, Record
from evals.gate.policy import GatePolicy


class SweepPoint(Record):
    """One candidate of a sweep, measured on the tuning split."""

    ratio: float = Field(description="unfreeze_rank_ratio of its training")
    scale: float = Field(description="factor of the trained update")
    learned: float = Field(description="score on the new skill's tuning rows")
    gain: float = Field(description="this score minus the champion's")
    n: int = Field(description="tuning rows of the new skill")
    forgetting: float = Field(description="largest share of a margin that is used; 0 if nothing was lost")
    losses: dict[str, float] = Field(description="loss by suite: difference of scores; for drift the relative increase of bits per byte")
    model_sha256: str


class Choice(Record):
    """The chosen point, the Pareto frontier, and the reason."""

    point: SweepPoint
    frontier: tuple[SweepPoint, ...]
    reason: str


def measure_point(
    ratio: float, scale: float, candidate: EvalReport, champion: EvalReport, learning: str, policy: GatePolicy
) -> SweepPoint:  # fmt: skip
    """Compare a candidate's tuning report with the champion's. `learning` names the suite of the new skill."""
    before = {suite.name: suite for suite in champion.suites}
    losses: dict[str, float] = {}
    by_category: dict[Category, list[float]] = {}
    for suite in candidate.suites:
        if suite.name == learning:
            continue
        old = before[suite.name].score
        loss = (suite.score - old) / old if suite.category == "drift" else old - suite.score
        losses[suite.name] = loss
        by_category.setdefault(suite.category, []).append(loss)
    own = candidate.suite(learning)
    return SweepPoint(
        ratio=ratio,
        scale=scale,
        learned=own.score,
        gain=own.score - before[learning].score,
        n=own.n,
        forgetting=share_of_margin(by_category, policy),
        losses=losses,
        model_sha256=candidate.model_sha256,
    )


def share_of_margin(losses: Mapping[Category, Sequence[float]], policy: GatePolicy) -> float:
    """The worst category's mean loss as a share of its margin."""
    shares = [
        sum(values) / len(values) / (policy.drift_limit if category == "drift" else policy.margin(category))
        for category, values in losses.items()
    ]
    return max(0.0, *shares) if shares else 0.0


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
    """Of the points within all margins, the one with the least forgetting whose score is within a standard error of the best."""
    edge = frontier(points)
    within = [point for point in edge if point.forgetting <= 1.0 and point.gain > 0.0]
    if not within:
        learning = [point for point in edge if point.gain > 0.0]
        if not learning:
            best = max(edge, key=lambda point: point.learned)
            return Choice(point=best, frontier=edge, reason="no point learned the skill; this one scored highest")
        return Choice(point=learning[0], frontier=edge, reason="every point that learns exceeds a margin; this one loses least")
    best = max(within, key=lambda point: point.learned)
    error = math.sqrt(best.learned * (1.0 - best.learned) / best.n) if 0.0 < best.learned < 1.0 else 0.0
    good = [point for point in within if point.learned >= best.learned - error]
    chosen = min(good, key=lambda point: (point.forgetting, -point.learned))
    reason = "learns most of those within all margins"
    if chosen != best:
        reason = f"within a standard error ({100 * error:.1f} points) of the best score within the margins, and forgets less"
    return Choice(point=chosen, frontier=edge, reason=reason)
