"""Audit forgetting over all rounds, and decide: the gate's verdict with its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from data_contracts.digests import file_digest
from data_contracts.errors import LineageError
from data_contracts.manifests import (
    MANIFEST_NAME,
    CheckpointManifest,
    EvalReport,
    Verdict,
    write_manifest,
)
from evals.audit.forgetting import ForgettingAudit, RoundEvaluation, audit_forgetting
from evals.audit.weights import WeightDrift
from evals.gate.decide import decide as decide_gate
from evals.gate.decide import items_wanted
from evals.gate.policy import GatePolicy
from evals.items import load_evaluation
from flows.lineage import RoundRecord, VersionRef, claim_judgement, read_history
from flows.lineage.audit_rows import audit_row, recorded_row
from flows.round.context import Round, stage_task
from flows.round.reports import Evaluated, gate_evidence
from flows.workspace.round_page import ANSWERS, PAGE, store_page
from flows.workspace.stages import Stage, run_stage

DECIDE_CODE = ("evals.audit.forgetting", "evals.gate.decide", "evals.report.render", "flows.round.reports", "flows.workspace.round_page")


@stage_task("audit", "audit {round.skill}")
def audit(round: Round, candidate: Stage[CheckpointManifest], reports: Evaluated, moved: Sequence[WeightDrift]) -> ForgettingAudit:
    """Forgetting in every round so far, including this candidate. `moved`: its weights against the champion's."""
    newest = audit_row(
        number=round.run.round,
        skill=round.skill,
        suite=reports.new,
        method=candidate.manifest.method,
        attempt=round.run.attempt,
        reports=[load_evaluation(reports.candidate.folder)],
        layers=candidate.manifest.layers,
        weights=moved,
    )
    return audit_forgetting([*ancestor_rows(read_history(round.lineage), round.chain, reports.base), newest])


def ancestor_rows(history: Sequence[RoundRecord], chain: Sequence[VersionRef], base: Stage[EvalReport]) -> list[RoundEvaluation]:
    """The rows of the champion and its ancestors. `base` is the base model's newest report, which covers the skills too."""
    line = [version.version for version in chain]
    records = {record.version: record for record in history if record.version is not None}
    first, *later = (records[version] for version in line if version in records)
    rows = [recorded_row(first, line, reports=[base.folder]), *(recorded_row(record, line) for record in later)]
    return [row for row in rows if row is not None]


@stage_task("decide", "decide {round.skill}")
def decide(round: Round, reports: Evaluated, forgetting: ForgettingAudit, first_look: Mapping[str, int]) -> Stage[Verdict]:
    """Evidence -> verdict and report. `first_look`: the items of each suite at the first look, empty where this is the first."""
    attempts, policy = claim_judgement(round.lineage, round.run), policy_of(round.config.gate, round.skill, reports.new)
    inputs = {
        "candidate": reports.candidate.digest,
        "champion": reports.champion.digest,
        "base": reports.base.digest,
        "learners": {name: stage.digest for name, stage in reports.learners.items()},
        "registered": {name: file_digest(known.folder / MANIFEST_NAME) for name, known in reports.registered.items()},
        "first_skill": reports.first_skill,
        "policy": policy.model_dump(mode="json"),
        "attempts": attempts,
        "skill": reports.new,
        "first_look": dict(first_look),
    }

    def build(folder: Path) -> None:
        evidence = gate_evidence(reports, attempts, first_look)
        verdict = decide_gate(evidence, policy)
        write_manifest(folder, store_page(folder, verdict, forgetting, evidence))

    stage = run_stage(round.workspace.stages, "decide", inputs, Verdict, build, code=DECIDE_CODE)
    if stage.reused:
        again = decide_gate(gate_evidence(reports, attempts, first_look), policy)
        require_same_verdict(stage, again)
    round.record("decide", stage, stage.folder / PAGE, stage.folder / ANSWERS)
    return stage


def policy_of(policy: GatePolicy, skill: str, suite: str) -> GatePolicy:
    """The policy with what it names for a skill applied to the suite of a drop that refreshes it, unless that suite is named too."""
    if suite == skill:
        return policy
    scores, floors = ({suite: each[skill], **each} if skill in each else each for each in (policy.min_scores, policy.floors))
    return policy.model_copy(update={"min_scores": scores, "floors": floors})


def require_same_verdict(stage: Stage[Verdict], again: Verdict) -> None:
    """Raise LineageError if a verdict from the disk is not what the gate decides on the same evidence and policy."""
    if again.model_copy(update={"files": stage.manifest.files}) != stage.manifest:
        what = f"holds the verdict {stage.manifest.decision.value}, the gate decides {again.decision.value} on this evidence: it was edited"
        raise LineageError(str(stage.folder), what, "delete this folder and run the round again")


def items_to_add(verdict: Stage[Verdict], reports: Evaluated) -> dict[str, int]:
    """Suite -> items, for suites that a second look evaluates on more items; empty if there is no second look."""
    return items_wanted(verdict.manifest, load_evaluation(reports.candidate.folder))


def items_of(reports: Evaluated) -> dict[str, int]:
    """Suite -> items that the candidate was evaluated on, for all suites that the gate reads."""
    return {suite.name: suite.n for suite in reports.candidate.manifest.suites if not suite.sealed}
