"""What people see in Prefect: the verdict as a Markdown artifact, the suites as a table."""

from __future__ import annotations

from pathlib import Path

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from data_contracts.manifests import Verdict
from evals.audit import ForgettingAudit
from evals.report import verdict_markdown


def publish_verdict(verdict: Verdict, forgetting: ForgettingAudit, report: Path) -> None:
    """Attach the verdict to the running flow. Artifact keys are fixed, so that the page of a key shows every round."""
    markdown = verdict_markdown(verdict, forgetting) + f"\n\nFull report: `{report}`\n"
    create_markdown_artifact(markdown, key="verdict", description=f"{verdict.decision.value}: {verdict.reasons[0]}")
    rows = [{"check": check.check, "subject": check.subject, "outcome": check.outcome, "what": check.sentence} for check in verdict.checks]
    create_table_artifact(rows, key="gate-checks", description="every question that the gate asked")
