"""The result of a round, for the person or the scheduler that started it."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from data_contracts.errors import LineageError
from data_contracts.manifests import CheckpointManifest, Decision, DropManifest, EvalReport, Record, Verdict, read_manifest
from evals.gate.next_steps import Situation, next_steps
from evals.report.facts import passes_made
from flows.lineage import RoundRecord, RoundRun, VersionRef, current_champion, find_version, read_history
from flows.workspace.workspace import Workspace, find_report, page_of

EXIT_CODES = {Decision.PASS: 0, Decision.ERROR: 1, Decision.BLOCK: 2, Decision.INCONCLUSIVE: 3}


class SuiteChange(Record):
    """One suite on the champion and on the candidate."""

    suite: str
    category: str
    before: float
    after: float
    n: int


class RoundOutcome(Record):
    round: int
    attempt: int
    skill: str
    method: str
    decision: Decision
    reasons: tuple[str, ...]
    lost: tuple[str, ...] = Field(description="suites on which the gate found a loss")
    next: tuple[str, ...] = Field((), description="what to try next, in that order; empty if the round was promoted, or decided since")
    since: str = Field("", description="what people did with the version after the verdict: promoted, rejected, rolled back")
    suites: tuple[SuiteChange, ...]
    version: int = Field(description="version of the candidate in the registry, promoted or not")
    champion: int = Field(description="champion after the round")
    report: Path = Field(description="self-contained HTML page")
    checkpoint: Path = Field(description="folder whose model/ loads with from_pretrained")

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.decision]


def outcome_of(
    workspace: Workspace, run: RoundRun, version: VersionRef, verdict: Verdict, verdict_folder: Path, champion_report: EvalReport
) -> RoundOutcome:
    """The outcome of a round whose version is registered."""
    if version.evaluation is None or run.skill is None:
        raise LineageError(f"version {version.version}", "has no evaluation", "run the round again")
    champion = current_champion(workspace.lineage, verify=False)  # its number; promoting it has verified its files
    candidate_report = read_manifest(version.evaluation, EvalReport, verify=False)
    before = {suite.name: suite for suite in champion_report.suites}
    return RoundOutcome(
        round=run.round,
        attempt=run.attempt,
        skill=run.skill,
        method=version.method,
        decision=verdict.decision,
        reasons=verdict.reasons,
        lost=verdict.lost,
        next=steps_after(workspace, verdict, version, candidate_report),
        suites=tuple(
            SuiteChange(suite=suite.name, category=suite.category, before=before[suite.name].score, after=suite.score, n=suite.n)
            for suite in candidate_report.suites
            if suite.name in before and not suite.sealed
        ),
        version=version.version,
        champion=champion.version if champion else version.version,
        report=page_of(workspace, version.version),
        checkpoint=version.checkpoint,
    )


def steps_after(workspace: Workspace, verdict: Verdict, version: VersionRef, report: EvalReport) -> tuple[str, ...]:
    """What to try next after a verdict: the gate's hints, filled in with facts about this training."""
    made = read_manifest(version.checkpoint, CheckpointManifest, verify=False)
    rate, summary = made.config.get("learning_rate"), made.summary
    drop = read_manifest(version.drop, DropManifest, verify=False) if version.drop else None
    situation = Situation(
        version=version.version,
        drop=version.drop_file or (drop.source if drop else "DROP"),
        heldout=version.heldout_file,
        skill=version.skill or "",
        refresh=drop is not None and drop.teaching > 1,
        calibrated=workspace.config.calibration is not None,
        scale=float(made.config.get("update_scale") or 1.0),
        scalable="update" in made.files,
        epochs=passes_made(made),
        learning_rate=rate if isinstance(rate, float) else None,
        steps=summary.steps if summary else None,
        last_loss=summary.final_loss if summary else None,
        moment_tokens=made.config.get("moment_tokens") if made.protect == "activations" else None,
        replay_share=replayed_share(made),
        keep_general=float(made.config.get("keep_general") or 0.0) if made.protect == "activations" else None,
        first_round=version.round == 1,
        examples=summary.examples if summary else None,
        watched=bool(made.config.get("early_stop_patience")),
        settled=summary.settled if summary else None,
        skills=frozenset(suite.name for suite in report.suites if suite.category == "skill"),
        categories={suite.name: suite.category for suite in report.suites if not suite.sealed},
        spare={suite.name: suite.available - suite.n for suite in report.suites if suite.available and not suite.sealed},
    )
    return next_steps(verdict, situation)


def replayed_share(made: CheckpointManifest) -> float | None:
    """Share of the training rows that came from earlier rounds; None where the lineage keeps none."""
    share, kept = made.config.get("replay_share"), made.config.get("buffer_size")
    return float(share) if isinstance(share, int | float) and kept else None


def decided_since(record: RoundRecord) -> str:
    """What people did with a version after a verdict other than PASS; empty where it still waits."""
    if not (record.rejected or record.was_champion) or record.decision == Decision.PASS.value:
        return ""
    when = f" on {record.when:%Y-%m-%d}" if record.when else ""
    return f"{record.event}{when} by {record.who or 'nobody on record'}" + (f": {record.why}" if record.why else "")


def past_outcome(workspace: Workspace, run: RoundRun) -> RoundOutcome:
    """The outcome of a round that has ended already, read from the lineage. Nothing is computed or promoted."""
    record = next((record for record in read_history(workspace.lineage) if record.run_id == run.run_id), None)
    if record is None or record.version is None or record.verdict is None:
        raise LineageError(
            f"round {run.round}",
            "has ended, but its version is missing from the registry",
            "run `skillstack verify`, then restore the registry from backup",
        )
    verdict = read_manifest(record.verdict, Verdict)
    champion_report = read_manifest(find_report(workspace, verdict.inputs["champion"]), EvalReport, verify=False)
    outcome = outcome_of(workspace, run, find_version(workspace.lineage, record.version), verdict, record.verdict, champion_report)
    if since := decided_since(record):  # nothing is left to decide, so nothing is left to try
        outcome = outcome.model_copy(update={"since": since, "next": ()})
    if outcome.report.is_file():
        return outcome
    return outcome.model_copy(update={"report": record.verdict / "report.html"})  # interrupted before its page was written
