"""The monthly report: forgetting in every round, the decisions of the month, and the result of verification.

    skillstack report [--month 2026-11]

It loads no model. Rounds and decisions are the month's; everything else is as of the day it is written, and called so. The page is under
`state_dir/reports`, in MLflow among the ledger's artifacts, and an artifact of the flow run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

from prefect import flow
from pydantic import AfterValidator, Field

from data_contracts.errors import ConfigError
from data_contracts.escaping import markdown_text
from data_contracts.files import write_atomically
from data_contracts.manifests import Record
from evals.audit.forgetting import ForgettingAudit
from evals.report.render import MonthView, render_lineage
from flows.config.parameters import ConfigParameter, check_month, month_meant, named
from flows.lineage import LedgerEntry, RoundRecord, Verification, keep_report, read_tree, verify_lineage
from flows.lineage.registry.history import actor_of
from flows.lineage.storage.records import DECISIONS
from flows.review.audit import audit_rounds, score_table
from flows.workspace.pages import not_vital, publish_audit
from flows.workspace.round_facts import event_words, round_costs
from flows.workspace.workspace import open_workspace


def _month(text: str) -> str:
    try:
        return check_month(text)
    except ConfigError as error:
        raise ValueError(str(error)) from error


Month = Annotated[str, AfterValidator(_month), Field(description="such as 2026-11; previous: the last that has ended; empty: the current")]


class MonthlyReport(Record):
    """`waiting`: versions that a person has to decide on; `holds`: their rounds, with the gate's reasons."""

    month: str
    as_of: date = Field(description="the day it was written (UTC): champion, holds, verification and all scores are of this day")
    champion: int | None
    rounds: tuple[RoundRecord, ...] = Field(description="rounds that were started in this month")
    decisions: tuple[LedgerEntry, ...] = Field(description="of this month, by the gate or a person")
    recorded: tuple[LedgerEntry, ...] = Field((), description="the month's other entries of the ledger, without registrations")
    waiting: tuple[int, ...]
    holds: tuple[RoundRecord, ...] = ()
    verification: Verification
    gaps: tuple[str, ...]
    page: Path
    summary: Path


@flow(name="audit", flow_run_name=named("audit"), persist_result=False)
def monthly_audit(config: ConfigParameter, month: Month = "") -> MonthlyReport:
    """Write the report of a month. Raises LineageError before the first promotion."""
    month, now = month_meant(month), datetime.now(UTC)
    workspace = open_workspace(config)
    folder = config.state_dir / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    audit = audit_rounds(workspace)
    tree = read_tree(workspace.lineage)
    champion = next((record for record in tree.rounds if record.champion), None)
    holds = tuple(waiting_rounds(tree.rounds))
    entries = [entry for entry in tree.ledger if entry.action != "register" and f"{entry.time:%Y-%m}" == month]
    report = MonthlyReport(
        month=month,
        as_of=now.date(),
        champion=champion.version if champion else None,
        rounds=tuple(record for record in tree.rounds if record.started and f"{record.started:%Y-%m}" == month),
        decisions=tuple(entry for entry in entries if entry.action in DECISIONS),
        recorded=tuple(entry for entry in entries if entry.action not in DECISIONS),
        waiting=tuple(record.version for record in holds if record.version is not None),
        holds=holds,
        verification=verify_lineage(workspace.lineage),
        gaps=audit.gaps,
        page=folder / f"audit-{month}.html",
        summary=folder / f"audit-{month}.md",
    )
    costs = tuple(round_costs(tree.rounds))
    render_lineage(audit, report.page, month_view(report), rounds=costs, policy=config.gate.model_dump(mode="json"))
    text = "\n".join(summary_lines(report, audit)) + "\n"
    write_atomically(report.summary, text)
    keep_report(workspace.lineage, report.page, report.summary)
    with not_vital(f"the report of {month}"):
        publish_audit(text, month)
    return report


def month_view(report: MonthlyReport) -> MonthView:
    """The contents of the Markdown summary, for the HTML page."""
    return MonthView(
        title=report.month,
        as_of=f"{report.as_of}",
        summary=summary_words(report),
        waiting="; ".join(hold_words(record) for record in report.holds),
        checked=checked_words(report.verification),
        decisions=tuple(
            (f"{entry.time:%Y-%m-%d %H:%M}", event_words(entry), str(entry.version), actor_of(entry), entry.reason)
            for entry in report.decisions
        ),
        findings=tuple((finding.where, finding.problem) for finding in report.verification.findings),
    )


def checked_words(result: Verification) -> str:
    """The result of verification and the head of the ledger: a copy of this page elsewhere proves later that no entry was changed."""
    read = f"{result.files} files and {result.entries} ledger entries verified, {result.replayed} verdicts recomputed"
    said = "no problems" if result.ok else f"{len(result.findings)} finding{'s' * (len(result.findings) != 1)}"
    return f"{read}: {said}. {result.signatures()[0].upper()}{result.signatures()[1:]}. Head of the ledger: {result.head or 'none'}."


def summary_words(report: MonthlyReport) -> str:
    """The month in one line. The registration of the base, which taught nothing, is no round here."""
    rounds = sum(1 for record in report.rounds if record.skill)
    others = Counter(entry.action for entry in report.recorded)
    also = f" Also in the ledger: {', '.join(f'{count} {action}' for action, count in sorted(others.items()))}." if others else ""
    champion = f"Champion as of {report.as_of}: version {report.champion}."
    return f"{champion} Rounds in {report.month}: {rounds}. Decisions: {len(report.decisions)}.{also}"


def waiting_rounds(rounds: Sequence[RoundRecord]) -> Iterator[RoundRecord]:
    """Rounds whose version is held, was trained from the present champion, and is not rejected."""
    champion = next((record.version for record in rounds if record.champion), None)
    for record in rounds:
        if record.version is not None and record.decision == "INCONCLUSIVE" and record.parent_version == champion and not record.rejected:
            yield record


def hold_words(record: RoundRecord) -> str:
    """A held version with what it would add, since when it waits, and the gate's first reason."""
    since = f" since {record.ended:%Y-%m-%d}" if record.ended else ""
    why = f": {record.reasons[0]}" if record.reasons else ""
    return f"version {record.version} (round {record.round}, {record.skill or 'base'}){since}{why}"


def summary_lines(report: MonthlyReport, audit: ForgettingAudit) -> Iterator[str]:
    """The month in Markdown: rounds and decisions, versions that wait, findings, and the matrix of scores."""
    yield f"# Skills of the model, {report.month}"
    yield ""
    yield summary_words(report)
    yield ""
    if report.holds:
        yield f"**Waiting for a person, as of {report.as_of}** (`skillstack approve VERSION` or `skillstack reject VERSION`):"
        yield ""
        yield from (f"- {markdown_text(hold_words(record))}" for record in report.holds)
        yield ""
    yield f"As of {report.as_of}: {checked_words(report.verification)}"
    yield ""
    yield from (f"- {markdown_text(finding.where)}: {markdown_text(finding.problem)}" for finding in report.verification.findings)
    yield ""
    if report.decisions:
        yield "| time | event | version | by | reason |"
        yield "|---|---|---|---|---|"
        for entry in report.decisions:
            who, why = markdown_text(actor_of(entry)), markdown_text(entry.reason)
            yield f"| {entry.time:%Y-%m-%d %H:%M} | {event_words(entry)} | {entry.version} | {who} | {why} |"
        yield ""
    yield from _matrix(audit, report.as_of)
    yield from (f"- {markdown_text(gap)}" for gap in report.gaps)


def _matrix(audit: ForgettingAudit, as_of: date) -> Iterator[str]:
    suites, rows = score_table(audit)
    yield f"Scores after each round, as of {as_of}, in % (drift suites: bits per byte, lower is better)."
    yield ""
    yield "| after | " + " | ".join(map(markdown_text, suites)) + " | verdict |"
    yield "|---" * (len(suites) + 2) + "|"
    yield from ("| " + " | ".join((markdown_text(label), *cells)) + " |" for label, *cells in rows)
    yield ""
