"""Artifacts in Prefect: the verdict in Markdown, suites and checks as tables, the monthly report, a sweep's points."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import httpx
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, create_table_artifact, update_progress_artifact
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import PrefectException
from prefect.states import Completed

from data_contracts.escaping import markdown_text
from data_contracts.manifests import Decision, EvalReport, Verdict
from evals.audit.forgetting import ForgettingAudit
from evals.report.render import verdict_markdown
from evals.report.scores import change_text, score_text
from evals.report.steps import step_markdown
from flows.lineage import VersionRef
from flows.workspace.outcome import RoundOutcome
from flows.workspace.server import END_STATES

PROGRESS_SECONDS = 3.0
logger = logging.getLogger(__name__)

OUTCOMES = {"pass": "ok", "block": "LOST", "inconclusive": "not decided", "error": "ERROR", "n/a": "does not apply"}


def publish_verdict(
    verdict: Verdict,
    forgetting: ForgettingAudit,
    report: Path,
    candidate: EvalReport,
    champion: EvalReport,
    version: VersionRef,
    steps: Sequence[str],
) -> None:
    """Attach the verdict to the running flow. The artifact keys are fixed, so that the page of a key lists every round."""
    reason = verdict.reasons[0] if verdict.reasons else ""
    name, path = markdown_text(report.name), markdown_text(str(report))
    link = f"Full report: artifact {name} of the round's run in MLflow; on the worker: {path}."
    markdown = "\n\n".join((_next_step(verdict, version.version, steps), verdict_markdown(verdict, forgetting), link)) + "\n"
    about = f"{markdown_text(version.skill or 'base')}, version {version.version}"
    create_markdown_artifact(markdown, key="verdict", description=f"{about}: {markdown_text(reason) or verdict.decision.value}")
    rows = list(suite_rows(candidate, champion, verdict.lost))
    create_table_artifact(rows, key="suites", description=f"{about}: scores of the champion and of the candidate on every suite")
    checks = [
        {
            "check": check.check.replace("_", " "),
            "subject": check.subject,
            "outcome": OUTCOMES[check.outcome],
            "finding": check.sentence,
        }
        for check in verdict.checks
    ]
    create_table_artifact(checks, key="gate-checks", description=f"{about}: every check of the gate")


def suite_rows(candidate: EvalReport, champion: EvalReport, lost: Sequence[str]) -> Iterable[dict[str, Any]]:
    """One row per suite, in % (drift: bits per byte, lower is better)."""
    before = {suite.name: suite for suite in champion.suites}
    for suite in candidate.suites:
        if suite.name not in before or suite.sealed:
            continue
        old, new = before[suite.name].score, suite.score
        unit = "bits/byte" if suite.category == "drift" else "%"
        yield {
            "suite": suite.name,
            "kind": suite.category,
            "items": suite.n,
            "champion": f"{score_text(old, suite.category)} {unit}",
            "candidate": f"{score_text(new, suite.category)} {unit}",
            "change": change_text(new - old, suite.category),
            "lost": "LOST" if suite.name in lost else "",
        }


def _next_step(verdict: Verdict, version: int, steps: Sequence[str]) -> str:
    if verdict.decision is Decision.PASS:
        return f"**Next:** version {version} is the champion now. To undo this: `skillstack rollback --reason ...`."
    numbered = (f"{number}. {step_markdown(step)}" for number, step in enumerate(steps, 1))
    return "\n".join(("**The champion does not change. What to try next:**", "", *numbered))


@contextmanager
def shown_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress artifact of the running flow, updated every few seconds; none outside a flow run."""
    if FlowRunContext.get() is None and TaskRunContext.get() is None:
        yield lambda _done, _total: None
        return
    key = re.sub(r"[^a-z0-9]+", "-", what.lower()).strip("-")
    artifact: UUID | None = None
    with not_vital(what):
        artifact = cast("UUID", create_progress_artifact(0.0, key=key, description=what))
    updated = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal updated
        if artifact is not None and (done == total or time.monotonic() - updated > PROGRESS_SECONDS):
            updated = time.monotonic()
            with not_vital(what):
                update_progress_artifact(artifact, 100.0 * done / max(total, 1))

    yield show


def tag_flow_run(*tags: str) -> None:
    """Add tags to the running flow run, so that runs can be filtered by skill, month or verdict."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    with not_vital("tags"), get_client(sync_client=True) as client:
        client.update_flow_run(context.flow_run.id, tags=sorted({*context.flow_run.tags, *tags}))


def ended_as(outcome: RoundOutcome) -> RoundOutcome:
    """The outcome as the flow run's final state, named after the decision: Blocked and Held rounds are not shown as Completed.

    Prefect uses a returned state as the run's own and returns the outcome in it to the caller. Its type is COMPLETED: the run did its work,
    and FAILED, CANCELLED or PAUSED would be retried, raised to the caller or waited for. Prefect's pages colour by type alone, so such a
    run is green; therefore its own name ends with the decision too.
    """
    context = FlowRunContext.get()
    if context is None:
        return outcome
    if context.flow_run is not None:
        with not_vital("the run's name"), get_client(sync_client=True) as client:
            client.update_flow_run(context.flow_run.id, name=run_name(context.flow_run.name, outcome.decision.value))
    return cast("RoundOutcome", Completed(name=END_STATES[outcome.decision.value], message=outcome.reasons[0], data=outcome))


def run_name(name: str, decision: str) -> str:
    """`round · tickets · 2026-11 · Blocked`; of a promoted round without an ending, also where an earlier try had one."""
    for state in END_STATES.values():
        name = name.removesuffix(f" · {state}")
    return name if decision == "PASS" else f"{name} · {END_STATES[decision]}"


@contextmanager
def not_vital(what: str) -> Iterator[None]:
    """Log an artifact that the Prefect server refuses, and continue: the round must not fail for it, and MLflow has the report."""
    try:
        yield
    except (httpx.HTTPError, PrefectException) as error:
        logger.warning("no artifact in Prefect for %s: %s", what, " ".join(str(error).split())[:200])


def publish_audit(markdown: str, month: str) -> None:
    """The monthly report as an artifact; the key is fixed, so that its page lists every month."""
    create_markdown_artifact(markdown, key="monthly-audit", description=f"forgetting in every round, and the decisions of {month}")


def publish_points(markdown: str, rows: Sequence[Mapping[str, Any]], skill: str) -> None:
    """A sweep's points and its choice."""
    create_markdown_artifact(markdown, key="sweep", description=f"{markdown_text(skill)}: learning and forgetting")
    create_table_artifact([dict(row) for row in rows], key="sweep-points", description=f"{markdown_text(skill)}: every ratio and scale")
