"""One self-contained HTML page for a round and one for the lineage, and a verdict in Markdown.

    render_round(verdict, audit, evidence, out=folder / "report.html")
    render_lineage(audit, out=folder / "lineage.html")

The pages need no network and no server; the same input gives the same bytes (no clock is read).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment

from data_contracts.escaping import markdown_text
from data_contracts.files import write_atomically
from data_contracts.manifests import Verdict
from data_contracts.report.environment import page_environment
from evals.audit.forgetting import ForgettingAudit
from evals.gate.decide import GateEvidence
from evals.gate.words import signed
from evals.items import Evaluation
from evals.report import figures as report_figures
from evals.report import view as report_view
from evals.report.scores import percent, score_text

__all__ = ["MonthView", "render_lineage", "render_round", "verdict_markdown"]

FATES = {
    "lost_now": "lost in the newest round",
    "never_recovered": "lost earlier, never recovered",
    "regained": "lost and regained",
}


def _environment() -> Environment:
    environment = page_environment("evals.report")
    environment.filters |= {"signed": signed, "estimate": report_view.estimate_words, "percent": percent, "score": score_text}
    environment.globals |= {
        "badge_of": report_view.verdict_badge,
        "noise": report_view.noise_words,
        "share_bar": report_figures.share_bar,
        "change_words": report_view.change_words,
        "effect": report_view.effect_words,
        "fates": FATES,
    }
    return environment


def render_round(
    verdict: Verdict, audit: ForgettingAudit, evidence: GateEvidence | None = None, *, steps: Sequence[str] = (), out: Path
) -> Path:
    """Write the page of one round: the verdict first, then what was lost and whether that is noise, then the audit. Returns `out`.

    `evidence` adds each suite's score before and after; without it the page has the differences only. `steps` says what to try next.
    """
    groups = report_view.group_checks(verdict)
    reasons, flagged = report_view.split_reasons(verdict)
    page = _environment().get_template("round.html.j2")
    text = page.render(
        verdict=verdict,
        badge=report_view.BADGES[verdict.decision],
        reasons=reasons,
        flagged=flagged,
        steps=steps,
        suites=report_view.check_rows(groups.suites),
        pooled=report_view.check_rows(groups.pooled),
        anchored=report_view.check_rows(groups.anchored),
        warnings=report_view.check_rows(groups.warnings),
        scores=_scores(evidence),
        notes=scoring_notes(evidence.candidate) if evidence else [],
        facts=report_view.facts(verdict),
        **_audit_view(audit),
    )
    write_atomically(out, text)
    return out


def render_lineage(audit: ForgettingAudit, out: Path, month: MonthView | None = None) -> Path:
    """Write the page of a lineage: what was kept, what was lost, what is left; of a month also what was decided. Returns `out`."""
    write_atomically(out, _environment().get_template("lineage.html.j2").render(month=month, **_audit_view(audit)))
    return out


@dataclass(frozen=True)
class MonthView:
    """What the page of a month shows besides the audit, as text: decisions are (when, event, version, who, why)."""

    title: str
    summary: str
    waiting: str
    checked: str
    decisions: tuple[tuple[str, str, str, str, str], ...]
    findings: tuple[tuple[str, str], ...]


def _audit_view(audit: ForgettingAudit) -> dict[str, object]:
    return {
        "audit": audit,
        "matrix": report_view.matrix_rows(audit, drift=False, sealed=False),
        "drift_matrix": report_view.matrix_rows(audit, drift=True, sealed=False),
        "sealed_matrix": report_view.matrix_rows(audit, drift=False, sealed=True),
        "curves": report_view.suite_curves(audit),
        "by_suite": {suite.name: suite for suite in audit.suites},
    }


def _scores(evidence: GateEvidence | None) -> dict[str, tuple[str, str]]:
    """Suite -> (champion's score, candidate's score) in words."""
    if evidence is None:
        return {}
    found = {}
    for name, items in evidence.candidate.suites.items():
        if name in evidence.champion.suites:
            before, after = evidence.champion.suites[name].result.score, items.result.score
            found[name] = score_text(before, items.category), score_text(after, items.category)
    return found


def scoring_notes(candidate: Evaluation) -> list[str]:
    """What of the candidate's answers and contexts did not count, and how many of its training rows it reproduced: one sentence each."""
    notes = []
    for result in candidate.report.suites:
        share = f"{result.name}, of {result.n} items"
        if result.set_aside:
            notes.append(f"{share}: in {result.set_aside} the reasoning was set aside, and what stands after it compared.")
        if result.cut:
            notes.append(f"{share}: in {result.cut} the context is longer than the model's window and was cut at its beginning.")
        if result.reproduced is not None:
            share = f"{100 * result.reproduced:.0f} %"
            notes.append(f"{result.name}: the candidate reproduces {share} of a sample of its training rows word for word.")
    return notes


def verdict_markdown(verdict: Verdict, audit: ForgettingAudit | None = None) -> str:
    """The verdict for a Prefect artifact and a model version's description: reasons, the suites, the lineage in a few numbers."""
    _, sign, words = report_view.BADGES[verdict.decision]
    lines = [f"## {sign} {words}", "", *(f"- {markdown_text(reason)}" for reason in verdict.reasons), ""]
    rows = [check for check in report_view.group_checks(verdict).suites if check.effect is not None]
    if rows:
        lines += ["| suite | question | answer | change (interval) | items | p |", "|---|---|---|---|---|---|"]
        for row in report_view.check_rows(rows):
            p = f"{row.check.p_value:.2g}" if row.check.p_value is not None else ""
            cells = (markdown_text(row.check.subject), row.question, row.badge[2], report_view.effect_words(row.check), str(row.check.n), p)
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    if audit is not None:
        transfer = audit.transfer
        average = report_view.estimate_words(transfer.average_accuracy, plain=True)
        forgetting, bwt = report_view.estimate_words(transfer.forgetting), report_view.estimate_words(transfer.bwt)
        lines += [f"Average over learned skills {average}; forgetting {forgetting}; BWT {bwt} (points, 90 % interval).", ""]
    lines.append(f"Candidate `{verdict.candidate_sha256[:12]}`, champion `{verdict.champion_sha256[:12]}`, attempt {verdict.attempts}.")
    return "\n".join(lines) + "\n"
