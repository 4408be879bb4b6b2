"""What a report shows, worked out before the template: rows of tables, cells of the heat map, curves, in a reader's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from data_contracts.manifests import Decision, Verdict
from evals.audit.forgetting import AuditRound, AuditSuite, Estimate, ForgettingAudit
from evals.gate.words import signed
from evals.report.figures import Point, curve
from evals.report.scores import percent, score_text

BADGES = {
    Decision.PASS: ("pass", "✓", "Passed"),
    Decision.BLOCK: ("block", "✕", "Blocked"),
    Decision.INCONCLUSIVE: ("hold", "?", "Inconclusive: held for a person"),
    Decision.ERROR: ("error", "!", "Error: nothing was decided"),
}
LARGE_LOSS = 0.03 - 1e-9
"""Losses against the learned score from here on are marked in the matrix (3 points, the cumulative budget's default)."""


@dataclass(frozen=True)
class Cell:
    """One cell of the matrix. `heat` in 0..100 colours it; `note` is the change since the skill was learned."""

    text: str
    heat: int | None
    note: str
    kind: str
    words: str


def matrix_rows(audit: ForgettingAudit, *, drift: bool, sealed: bool) -> tuple[list[AuditSuite], list[tuple[AuditRound, list[Cell]]]]:
    """Columns and rows of a heat map: scores in [0, 1] together, drift (bits per byte) apart."""
    chosen = [i for i, suite in enumerate(audit.suites) if (suite.category == "drift") is drift and suite.sealed is sealed]
    rows = [(each, [_cell(audit, row, i) for i in chosen]) for row, each in enumerate(audit.rounds)]
    return [audit.suites[i] for i in chosen], rows


def _cell(audit: ForgettingAudit, row: int, column: int) -> Cell:
    suite, value = audit.suites[column], audit.matrix[row][column]
    where = f"{suite.name} after {audit.rounds[row].label}"
    if value is None:
        return Cell("·", None, "", "missing", f"{where}: not measured")
    if suite.category == "drift":
        base = audit.matrix[0][column]
        change = f"{signed(value / base - 1)} %" if base and row else ""
        score = score_text(value, "drift")
        return Cell(score, None, change, "plain", f"{where}: {score} bits per byte {change}")
    start = suite.learned_in if suite.learned_in is not None else (0 if suite.category != "skill" else None)
    kind, note = "plain", ""
    if start is not None and row == start and suite.category == "skill":
        kind, note = "learned", "base" if not row else "learned" if audit.rounds[row].decision is not None else "new"
    elif start is not None and row < start:
        kind = "before"
    elif start is not None and row > start and (reference := audit.matrix[start][column]) is not None:
        better = (value - reference) if suite.higher_is_better else (reference - value)
        kind, note = ("lost" if better <= -LARGE_LOSS else "plain"), signed(value - reference)
    return Cell(percent(value), round(100 * value), note, kind, f"{where}: {percent(value)} {note}".strip())


def suite_curves(audit: ForgettingAudit) -> list[tuple[AuditSuite, Markup]]:
    """A small curve for each suite that is not sealed, all with the same x axis: the number of the round, not of the attempt."""
    curves = []
    last = max((each.number for each in audit.rounds), default=0)
    for column, suite in enumerate(audit.suites):
        measured = [(row, values[column]) for row, values in enumerate(audit.matrix) if values[column] is not None]
        if suite.sealed or len(measured) < 2:
            continue
        points = [_point(audit, suite, column, row, value) for row, value in measured if value is not None]
        ends = [end for point in points for end in (point.y, point.low, point.high) if end is not None]
        low, high = (0.0, 1.0) if suite.category != "drift" else _span(ends)
        ticks = [(0.0, "0"), (0.5, "50"), (1.0, "100")] if suite.category != "drift" else [(low, f"{low:.2f}"), (high, f"{high:.2f}")]
        curves.append((suite, curve(points, last, suite.name, low, high, ticks)))
    return curves


def _point(audit: ForgettingAudit, suite: AuditSuite, column: int, row: int, value: float) -> Point:
    mark = "learned" if row == suite.learned_in and row else "kept" if row in audit.lineage_rows else "blocked"
    low, high = (audit.intervals[row][column] if audit.intervals else None) or (None, None)
    reach = f" ({score_text(low, suite.category)} to {score_text(high, suite.category)})" if low is not None else ""
    words = f"{audit.rounds[row].label} {score_text(value, suite.category)}{reach}{'' if mark == 'kept' else f' ({mark})'}"
    return Point(audit.rounds[row].number, value, mark, words, low, high)


@dataclass(frozen=True)
class BudgetRow:
    """How much of what a suite may lose over all rounds is used; shares of the score (drift: of bits per byte). `since` says from where.

    `change` is better where it is positive; `words` is as the rest of the page names it: of drift the change of the bits per byte.
    """

    suite: str
    category: str
    since: str
    change: float
    budget: float
    unit: str

    @property
    def words(self) -> str:
        return f"{signed(-self.change if self.category == 'drift' else self.change)} {self.unit}"

    @property
    def left(self) -> float:
        """What may still be lost; negative where more was lost than is allowed. A gain is not saved up."""
        return self.budget + min(0.0, self.change)


def budget_rows(audit: ForgettingAudit, budgets: Mapping[str, float]) -> list[BudgetRow]:
    """Every suite with an anchor that the newest row has, least left first; `budgets` gives each category's, without sealed splits.

    A suite with a margin of its own may lose that much in all, where it is more (GatePolicy.budget_of, drift_limits).
    """
    by_name = {suite.name: suite for suite in audit.suites if audit.score(audit.lineage_rows[-1], suite.name) is not None}
    rows = []

    def budget_of(suite: AuditSuite) -> float:
        return max(budgets[suite.category], suite.margin or 0.0)

    for skill in audit.skills:
        if skill.suite not in by_name:
            continue
        if not skill.sealed and skill.learned_row != audit.lineage_rows[-1] and "skill" in budgets:
            better = 1.0 if by_name[skill.suite].higher_is_better else -1.0
            since, budget = audit.rounds[skill.learned_row].label, budget_of(by_name[skill.suite])
            rows.append(BudgetRow(skill.suite, "skill", since, better * (skill.now - skill.learned), budget, "points"))
    for change in audit.changes:
        if change.sealed or change.category not in budgets or change.suite not in by_name:
            continue
        drift = change.category == "drift"
        better = 1.0 if by_name[change.suite].higher_is_better else -1.0
        moved = better * (change.now - change.base) / (change.base if drift else 1.0)
        unit = "%" if drift else "points"
        rows.append(
            BudgetRow(
                change.suite, change.category, audit.rounds[audit.lineage_rows[0]].label, moved, budget_of(by_name[change.suite]), unit
            )
        )
    return sorted(rows, key=lambda row: (row.left / row.budget, row.suite))


def budgets_of(policy: Mapping[str, Any]) -> dict[str, float]:
    """Category -> what it may lose over all rounds, from a verdict's policy or the config's; empty where the policy has no budget."""
    found = {category: policy.get("anchor_budget") for category in ("skill", "general", "safety")} | {"drift": policy.get("drift_budget")}
    known = {category: float(value) for category, value in found.items() if value is not None}
    if "drift" in known:  # what one round may lose, all of them may
        known["drift"] = max(known["drift"], float(policy.get("drift_limit") or 0.0))
    return known


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = max((high - low) * 0.15, 0.01 * high)
    return low - room, high + room


def estimate_words(estimate: Estimate | None, *, plain: bool = False) -> str:
    """'−1.6 (−2.4 to −0.8)'; `plain` leaves the sign of the value out (an average, not a change)."""
    if estimate is None:
        return "n/a"
    show = percent if plain else signed
    return f"{show(estimate.value)} ({show(estimate.low)} to {show(estimate.high)})"


def noise_words(change: Estimate, *, higher_is_better: bool = True) -> str:
    """Whether a change is a loss, a gain or within noise: the interval does or does not include zero."""
    sign = 1.0 if higher_is_better else -1.0
    low, high = sorted((sign * change.low, sign * change.high))
    if high < 0:
        return "lost, more than noise explains"
    return "gained, more than noise explains" if low > 0 else "within noise"


def change_words(suite: str, audit: ForgettingAudit) -> str:
    """A general suite's change in its own unit: points, or percent of the base for drift."""
    change = next(each for each in audit.changes if each.suite == suite)
    if change.category != "drift":
        return estimate_words(change.change)
    share = [value / change.base for value in (change.change.value, change.change.low, change.change.high)]
    return f"{signed(share[0])} % ({signed(share[1])} to {signed(share[2])})"


def last_measured(audit: ForgettingAudit, suite: str) -> str:
    """Which round a suite was last measured after, where that is not the newest one of the lineage (it was retired, say); else empty."""
    measured = [row for row in audit.lineage_rows if audit.score(row, suite) is not None]
    if not measured or measured[-1] == audit.lineage_rows[-1]:
        return ""
    return f"last measured after {audit.rounds[measured[-1]].label}"


def verdict_badge(decision: Decision | None, *, approved: bool = False, rolled_back: bool = False) -> tuple[str, str, str]:
    if decision is None:
        return ("none", "–", "not judged")
    badge = BADGES[decision]
    if rolled_back:
        return ("hold", "↩", f"{badge[2]}; rolled back")
    if approved and decision is not Decision.PASS:
        return ("pass", badge[1], f"{badge[2]}; approved by a person")
    return badge


def digest_rows(verdict: Verdict) -> list[tuple[str, str]]:
    """What an auditor needs to find the evidence again."""
    rows = [
        ("Candidate", verdict.candidate_sha256),
        ("Champion", verdict.champion_sha256),
        ("Attempt of this round", f"{verdict.attempts}{', second look' if verdict.first_look else ''}"),
    ]
    return rows + [(f"Report read: {role.replace('anchor:', 'anchor of ')}", digest) for role, digest in sorted(verdict.inputs.items())]
