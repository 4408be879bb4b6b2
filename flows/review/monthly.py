"""The monthly report: forgetting in every round, the decisions of the month, and the result of verification.

    skillstack report [--month 2026-11]

It loads no model. The page is under `state_dir/reports`, in MLflow among the ledger's artifacts, and an artifact of the flow run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from flows.config.parameters import ConfigParameter, check_month, named, this_month
from flows.lineage import LedgerEntry, RoundRecord, Verification, keep_report, read_tree, verify_lineage
from flows.lineage.registry.history import actor_of
from flows.review.audit import audit_rounds, score_table
from flows.workspace.pages import not_vital, publish_audit
from flows.workspace.round_facts import event_words, round_costs
from flows.workspace.workspace import open_workspace


def _month(text: str) -> str:
    try:
        return check_month(text)
    except ConfigError as error:
        raise ValueError(str(error)) from error


Month = Annotated[str, AfterValidator(_month), Field(description="such as 2026-11; empty: the current month")]


class MonthlyReport(Record):
    """`waiting`: versions that a person has to decide on; `holds`: their rounds, with the gate's reasons."""

    month: str
    champion: int | None
    rounds: tuple[RoundRecord, ...] = Field(description="rounds that were started in this month")
    decisions: tuple[LedgerEntry, ...] = Field(description="ledger entries of this month")
    waiting: tuple[int, ...]
    holds: tuple[RoundRecord, ...] = ()
    verification: Verification
    gaps: tuple[str, ...]
    page: Path
    summary: Path


@flow(name="audit", flow_run_name=named("audit"), persist_result=False)
def monthly_audit(config: ConfigParameter, month: Month = "") -> MonthlyReport:
    """Write the report of a month. Raises LineageError before the first promotion."""
    month = month or this_month()
    workspace = open_workspace(config)
    folder = config.state_dir / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    audit = audit_rounds(workspace)
    tree = read_tree(workspace.lineage)
    champion = next((record for record in tree.rounds if record.champion), None)
    holds = tuple(waiting_rounds(tree.rounds))
    report = MonthlyReport(
        month=month,
        champion=champion.version if champion else None,
        rounds=tuple(record for record in tree.rounds if record.started and f"{record.started:%Y-%m}" == month),
        decisions=tuple(entry for entry in tree.ledger if entry.action != "register" and f"{entry.time:%Y-%m}" == month),
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
    return f"Champion: version {report.champion}. Rounds this month: {rounds}. Decisions: {len(report.decisions)}."


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
        yield "**Waiting for a person** (`skillstack approve VERSION` or `skillstack reject VERSION`):"
        yield ""
        yield from (f"- {markdown_text(hold_words(record))}" for record in report.holds)
        yield ""
    yield checked_words(report.verification)
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
    yield from _matrix(audit)
    yield from (f"- {markdown_text(gap)}" for gap in report.gaps)


def _matrix(audit: ForgettingAudit) -> Iterator[str]:
    suites, rows = score_table(audit)
    yield "Scores after each round, in % (drift suites: bits per byte, lower is better)."
    yield ""
    yield "| after | " + " | ".join(map(markdown_text, suites)) + " | verdict |"
    yield "|---" * (len(suites) + 2) + "|"
    yield from ("| " + " | ".join((markdown_text(label), *cells)) + " |" for label, *cells in rows)
    yield ""
