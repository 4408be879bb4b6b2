"""What a report shows, worked out before the template: rows of tables, cells of the heat map, curves, in a reader's words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from data_contracts.manifests import CheckOutcome, Decision, Verdict
from evals.audit.forgetting import AuditRound, AuditSuite, Estimate, ForgettingAudit
from evals.gate.drift import FLAGGED
from evals.gate.words import signed
from evals.report.figures import Point, curve, interval_bar
from evals.report.scores import percent, score_text

BADGES = {
    Decision.PASS: ("pass", "✓", "Passed"),
    Decision.BLOCK: ("block", "✕", "Blocked"),
    Decision.INCONCLUSIVE: ("hold", "?", "Inconclusive: held for a person"),
    Decision.ERROR: ("error", "!", "Error: nothing was decided"),
}
OUTCOMES = {
    "pass": ("pass", "✓", "passed"),
    "block": ("block", "✕", "blocks"),
    "inconclusive": ("hold", "?", "not shown"),
    "error": ("error", "!", "error"),
    "n/a": ("none", "–", "not judged"),
}
WARNINGS = ("drift_warning", "early_warning")
QUESTIONS = {
    "gain": "New skill learned?",
    "non_inferiority": "Kept on average?",
    "anchor": "Kept over all rounds?",
    "regression": "Kept?",
    "floor": "Through the floor?",
    "drift": "General text kept?",
    "anchor_drift": "Kept over all rounds?",
    "validity": "Comparable?",
    "margin": "Within its own margin?",
    "unmeasured": "Measured?",
    "measurement": "Measured rightly?",
    "drift_warning": "Text harder to predict?",
    "early_warning": "Right answers less likely?",
}
SUITE_CHECKS = ("regression", "floor", "margin", "drift", "gain")
LARGE_LOSS = 0.03
"""Losses against the learned score from here on are marked in the matrix (3 points, the cumulative budget's default)."""


@dataclass(frozen=True)
class CheckRow:
    check: CheckOutcome
    question: str
    badge: tuple[str, str, str]
    figure: Markup | None


@dataclass(frozen=True)
class Cell:
    """One cell of the matrix. `heat` in 0..100 colours it; `note` is the change since the skill was learned."""

    text: str
    heat: int | None
    note: str
    kind: str
    words: str


@dataclass(frozen=True)
class CheckGroups:
    """A verdict's checks as a reader looks for them."""

    suites: list[CheckOutcome]
    """One suite against the champion. Where a loss is proven, a second row that says it fell through the floor is left out."""
    pooled: list[CheckOutcome]
    """One category, or what is not about one suite."""
    anchored: list[CheckOutcome]
    """One suite against its anchor."""
    warnings: list[CheckOutcome]


def group_checks(verdict: Verdict) -> CheckGroups:
    subjects = {check.subject for check in verdict.checks if check.check == "regression"}
    proven = {check.subject for check in verdict.checks if check.check == "regression" and check.outcome == "block"}
    warnings = [check for check in verdict.checks if check.check in WARNINGS]
    suites = [check for check in verdict.checks if check.check in SUITE_CHECKS and not (check.check == "floor" and check.subject in proven)]
    rest = [check for check in verdict.checks if check.check not in (*SUITE_CHECKS, *WARNINGS)]
    pooled, anchored = [each for each in rest if each.subject not in subjects], [each for each in rest if each.subject in subjects]
    return CheckGroups(suites, pooled, anchored, warnings)


def split_reasons(verdict: Verdict) -> tuple[list[str], list[str]]:
    """(the reasons of the decision, what is flagged besides)."""
    flagged = [reason for reason in verdict.reasons if reason.startswith(FLAGGED)]
    return [reason for reason in verdict.reasons if reason not in flagged], [reason.removeprefix(FLAGGED) for reason in flagged]


def check_rows(checks: Sequence[CheckOutcome]) -> list[CheckRow]:
    """One row per check with its forest plot, all on one scale."""
    ends = [abs(end) for check in checks if check.check != "gain" for end in (check.effect, check.low, check.high) if end is not None]
    reach = max([0.06, *(end * 1.05 for end in ends)])
    return [_check_row(check, min(reach, 0.5)) for check in checks]


def _check_row(check: CheckOutcome, reach: float) -> CheckRow:
    figure = None
    if check.effect is not None and check.check != "early_warning":
        figure = interval_bar(check.effect, check.low, check.high, check.margin, reach, f"{check.subject}: {effect_words(check)}")
    badge = ("hold", "⚑", "flagged") if check.check in WARNINGS else OUTCOMES[check.outcome]
    return CheckRow(check, QUESTIONS.get(check.check, check.check), badge, figure)


def effect_words(check: CheckOutcome) -> str:
    """'−9.5 (90 %: −12.1 to −6.9)' in points, or in percent for drift (where positive is better, as everywhere).

    The level stands beside every interval, because checks that promote become stricter the more often a round is tried.
    """
    if check.effect is None:
        return ""
    if check.check == "early_warning":
        return f"{check.effect:.3g} nats".replace("-", "−")
    level = f"{100 * check.confidence:.3g} %: " if check.confidence is not None else ""
    if check.check == "drift_warning":  # often far below the tenth of a percent that other rows have
        return f"{100 * check.effect:.2g} % ({level}{100 * (check.low or 0.0):.2g} to {100 * (check.high or 0.0):.2g})".replace("-", "−")
    unit = " %" if check.check in ("drift", "anchor_drift", "drift_warning") else ""
    reach = f" ({level}{signed(check.low)} to {signed(check.high)})" if check.low is not None and check.high is not None else ""
    return f"{signed(check.effect)}{unit}{reach}"


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
    """A small curve for each suite that is not sealed, all with the same x axis."""
    curves = []
    for column, suite in enumerate(audit.suites):
        measured = [(row, values[column]) for row, values in enumerate(audit.matrix) if values[column] is not None]
        if suite.sealed or len(measured) < 2:
            continue
        points = [_point(audit, suite, row, value) for row, value in measured if value is not None]
        low, high = (0.0, 1.0) if suite.category != "drift" else _span([point.y for point in points])
        ticks = [(0.0, "0"), (0.5, "50"), (1.0, "100")] if suite.category != "drift" else [(low, f"{low:.2f}"), (high, f"{high:.2f}")]
        curves.append((suite, curve(points, len(audit.rounds), suite.name, low, high, ticks)))
    return curves


def _point(audit: ForgettingAudit, suite: AuditSuite, row: int, value: float) -> Point:
    mark = "learned" if row == suite.learned_in and row else "kept" if row in audit.lineage_rows else "blocked"
    words = score_text(value, suite.category)
    return Point(row, value, mark, f"{audit.rounds[row].label} {words}{'' if mark == 'kept' else f' ({mark})'}")


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


def verdict_badge(decision: Decision | None, *, approved: bool = False, rolled_back: bool = False) -> tuple[str, str, str]:
    if decision is None:
        return ("none", "–", "not judged")
    badge = BADGES[decision]
    if rolled_back:
        return ("hold", "↩", f"{badge[2]}; rolled back")
    if approved and decision is not Decision.PASS:
        return ("pass", badge[1], f"{badge[2]}; approved by a person")
    return badge


def facts(verdict: Verdict) -> list[tuple[str, str]]:
    """What an auditor needs to find the evidence again."""
    rows = [
        ("Candidate", verdict.candidate_sha256),
        ("Champion", verdict.champion_sha256),
        ("Attempt of this round", str(verdict.attempts)),
    ]
    return rows + [(f"Report read: {role.replace('anchor:', 'anchor of ')}", digest) for role, digest in sorted(verdict.inputs.items())]
