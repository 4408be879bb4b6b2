"""One self-contained HTML page for a round and one for the lineage, and a verdict in Markdown.

    render_round(verdict, audit, evidence, out=folder / "report.html")
    render_lineage(audit, out=folder / "lineage.html")

The pages need no network and no server; the same input gives the same bytes (no clock is read).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from data_contracts.escaping import markdown_text
from data_contracts.files import write_atomically
from data_contracts.manifests import Decision, Verdict
from data_contracts.rendering.plain import plain_prompt
from data_contracts.report.environment import page_environment
from evals.audit.forgetting import ForgettingAudit
from evals.gate.decide import GateEvidence
from evals.gate.words import signed
from evals.items import Evaluation
from evals.numbers import duration
from evals.report import figures as report_figures
from evals.report import view as report_view
from evals.report.answers import SHOWN, Answer, answer_suites
from evals.report.facts import Event, RoundCost, RoundFacts, count, moment
from evals.report.forest import draw_forest
from evals.report.reasons import group_reasons, split_reasons
from evals.report.scores import percent, score_text
from evals.report.steps import step_html

__all__ = ["MonthView", "render_lineage", "render_round", "verdict_markdown"]

FATES = {
    "lost_now": "lost in the newest round",
    "never_recovered": "lost earlier, never recovered",
    "regained": "lost and regained",
}


def _environment() -> Environment:
    environment = page_environment("evals.report")
    environment.filters |= {
        "plain": plain_prompt,
        "signed": signed,
        "estimate": report_view.estimate_words,
        "percent": percent,
        "score": score_text,
        "step": step_html,
    }
    environment.globals |= {
        "badge_of": report_view.verdict_badge,
        "noise": report_view.noise_words,
        "share_bar": report_figures.share_bar,
        "change_words": report_view.change_words,
        "last_measured": report_view.last_measured,
        "fates": FATES,
        "duration": duration,
        "count": count,
        "moment": moment,
    }
    return environment


def render_round(
    verdict: Verdict,
    audit: ForgettingAudit,
    evidence: GateEvidence | None = None,
    *,
    steps: Sequence[str] = (),
    facts: RoundFacts | None = None,
    answers: Sequence[Answer] = (),
    out: Path,
) -> Path:
    """Write the page of one round: verdict, facts and plot first, then why, what was answered, and how the lineage stands. Returns `out`.

    `evidence` adds each suite's score before and after; without it the page has the differences only. `steps` says what to try next.
    """
    headline, notes, flagged = split_reasons(verdict)
    categories = {suite.name: suite.category for suite in audit.suites}
    answers = () if verdict.decision is Decision.ERROR else answers  # what cannot be compared is not shown side by side
    known = facts or RoundFacts()
    page = _environment().get_template("round.html.j2")
    text = page.render(
        verdict=verdict,
        badge=report_view.BADGES[verdict.decision],
        headline=headline,
        notes=[*notes, *(scoring_notes(evidence.candidate) if evidence else [])],
        flagged=flagged,
        steps=steps,
        forest=draw_forest(verdict, categories, suite_scores(evidence), suite_floors(verdict, audit)),
        reasons=group_reasons(verdict, categories),
        known=known,
        loss=loss_view(known),
        answers=answer_suites(answers),
        kinds=[kind for kind in SHOWN if any(answer.kind == kind for answer in answers)],
        budget=report_view.budget_rows(audit, report_view.budgets_of(verdict.policy)),
        digests=report_view.digest_rows(verdict),
        **_audit_view(audit),
    )
    write_atomically(out, text)
    return out


def render_lineage(
    audit: ForgettingAudit,
    out: Path,
    month: MonthView | None = None,
    *,
    rounds: Sequence[RoundCost] = (),
    events: Sequence[Event] = (),
    policy: Mapping[str, Any] | None = None,
) -> Path:
    """Write the page of a lineage: what was kept, what was lost, what is left; of a month also what was decided. Returns `out`.

    `rounds` and `events` say who decided what and when, and what each attempt took; `policy` holds the budget over all rounds.
    """
    budget = report_view.budget_rows(audit, report_view.budgets_of(policy or {}))
    known = RoundFacts(rounds=tuple(rounds), events=tuple(events))
    text = _environment().get_template("lineage.html.j2").render(month=month, known=known, budget=budget, **_audit_view(audit))
    write_atomically(out, text)
    return out


@dataclass(frozen=True)
class MonthView:
    """What the page of a month shows besides the audit, as text: decisions are (when, event, version, who, why).

    as_of: the day of everything but the decisions, which may lie after the month.
    """

    title: str
    as_of: str
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


def suite_scores(evidence: GateEvidence | None) -> dict[str, tuple[float, float]]:
    """Suite -> (champion's score, candidate's score)."""
    if evidence is None:
        return {}
    before, after = evidence.champion.suites, evidence.candidate.suites
    return {name: (before[name].result.score, items.result.score) for name, items in after.items() if name in before}


def suite_floors(verdict: Verdict, audit: ForgettingAudit) -> dict[str, float]:
    """Suite -> the loss that blocks it by itself, as the verdict's policy and its own margin have it (score units; GatePolicy.floor_of)."""
    floor, own = verdict.policy.get("floor"), verdict.policy.get("floors") or {}
    if floor is None:
        return {}
    suites = [suite for suite in audit.suites if suite.category != "drift"]
    return {suite.name: float(own.get(suite.name, max(floor, suite.margin or 0.0))) for suite in suites}


def loss_view(known: RoundFacts) -> tuple[Markup, str] | None:
    """The curve of the training loss, and a sentence that says whether it settled; None where it was not recorded."""
    if len(known.loss) < 2:
        return None
    (_, first), (step, last) = known.loss[0], known.loss[-1]
    fell = f"The training loss went from {first:.2f} to {last:.2f} nats per token in {step:,} steps"
    settled = {
        True: " and had settled when training ended.",
        False: ", and was still falling when training ended: more passes may teach more.",
        None: ".",
    }[known.settled]
    return report_figures.loss_curve(known.loss, fell + settled), fell + settled


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
    """The verdict for a Prefect artifact and a model version's description: the headline, a line per group of suites, and every suite."""
    _, sign, words = report_view.BADGES[verdict.decision]
    headline, notes, flagged = split_reasons(verdict)
    categories = {suite.name: suite.category for suite in audit.suites} if audit is not None else {}
    lines = [f"## {sign} {words}", "", markdown_text(headline), ""]
    for group in group_reasons(verdict, categories):
        lines.append(f"- {group.badge[1]} **{markdown_text(group.title)}**: {markdown_text(group.summary)}")
    lines += [f"- {markdown_text(note)}" for note in notes]
    lines += [f"- Flagged: {markdown_text(each)}" for each in flagged]
    forest = draw_forest(verdict, categories, {}, {})
    if forest is not None:
        lines += ["", "| suite | verdict | change (interval) | over all rounds | kind |", "|---|---|---|---|---|"]
        for each in forest.groups:
            for row in each.rows:
                cells = (markdown_text(row.subject), row.badge[2], row.change, row.since.removeprefix("over all rounds "), each.title)
                lines.append(f"| {' | '.join(cells)} |")
    lines.append("")
    if audit is not None:
        transfer = audit.transfer
        average = report_view.estimate_words(transfer.average_accuracy, plain=True)
        forgetting, bwt = report_view.estimate_words(transfer.forgetting), report_view.estimate_words(transfer.bwt)
        lines += [f"Average over learned skills {average}; forgetting {forgetting}; BWT {bwt} (points, 90 % interval).", ""]
    look = ", second look" if verdict.first_look else ""
    lines.append(
        f"Candidate `{verdict.candidate_sha256[:12]}`, champion `{verdict.champion_sha256[:12]}`, attempt {verdict.attempts}{look}."
    )
    return "\n".join(lines) + "\n"
