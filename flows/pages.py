"""What people see in Prefect: the verdict in Markdown, every suite and every check as tables, the month's report, a sweep's points."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from data_contracts.manifests import EvalReport, Verdict
from evals.audit import ForgettingAudit
from evals.report import verdict_markdown

OUTCOMES = {"pass": "ok", "block": "LOST", "inconclusive": "not shown", "error": "ERROR", "n/a": "does not apply"}


def publish_verdict(
    verdict: Verdict, forgetting: ForgettingAudit, report: Path, candidate: EvalReport, champion: EvalReport, version: int, skill: str
) -> None:
    """Attach the verdict to the running flow. Artifact keys are fixed, so that the page of a key shows every round."""
    reason = verdict.reasons[0] if verdict.reasons else ""
    markdown = (
        verdict_markdown(verdict, forgetting) + f"\n\n{_next_step(verdict, version)}\n\nFull report: [{report.name}]({report.as_uri()})\n"
    )
    create_markdown_artifact(markdown, key="verdict", description=f"{skill}, version {version}: {verdict.decision.value}. {reason}")
    title = f"{skill}, version {version}: every suite on the champion and on the candidate"
    create_table_artifact(list(suite_rows(candidate, champion, verdict.lost)), key="suites", description=title)
    checks = [
        {
            "question": check.check.replace("_", " "),
            "about": check.subject,
            "answer": OUTCOMES[check.outcome],
            "what was found": check.sentence,
        }
        for check in verdict.checks
    ]
    create_table_artifact(checks, key="gate-checks", description=f"{skill}, version {version}: every question that the gate asked")


def suite_rows(candidate: EvalReport, champion: EvalReport, lost: Sequence[str]) -> Iterable[dict[str, Any]]:
    """One row a suite, in % (drift: bits a byte, lower is better)."""
    before = {suite.name: suite for suite in champion.suites}
    for suite in candidate.suites:
        if suite.name not in before or suite.sealed:
            continue
        old, new = before[suite.name].score, suite.score
        drift = suite.category == "drift"
        yield {
            "suite": suite.name,
            "kind": suite.category,
            "items": suite.n,
            "champion": f"{old:.3f} bits/byte" if drift else f"{100 * old:.1f} %",
            "candidate": f"{new:.3f} bits/byte" if drift else f"{100 * new:.1f} %",
            "change": f"{new - old:+.3f}" if drift else f"{100 * (new - old):+.1f} points",
            "lost": "LOST" if suite.name in lost else "",
        }


def _next_step(verdict: Verdict, version: int) -> str:
    steps = {
        "PASS": f"Version {version} is the champion now. To take it back: `skillstack rollback --reason ...`.",
        "BLOCK": f"The champion stays. To accept the loss in your name: `skillstack approve {version} --override "
        "--reviewer NAME --reason ...`.",
        "INCONCLUSIVE": f"The champion stays. A person decides: `skillstack approve {version} --reviewer NAME --reason ...`, or `reject`.",
        "ERROR": "The champion stays: the evaluation cannot be trusted. Correct what is named above and run the round again.",
    }
    return "**Next:** " + steps[verdict.decision.value]


def publish_audit(markdown: str, audit: ForgettingAudit, month: str) -> None:
    """The month's report as an artifact; one key, so that its page shows every month."""
    create_markdown_artifact(markdown, key="monthly-audit", description=f"what every round cost the earlier skills, as of {month}")


def publish_points(markdown: str, rows: Sequence[Mapping[str, Any]], skill: str) -> None:
    """A sweep's points and its choice."""
    create_markdown_artifact(markdown, key="sweep", description=f"{skill}: learning against forgetting")
    create_table_artifact([dict(row) for row in rows], key="sweep-points", description=f"{skill}: every ratio and scale that was tried")
