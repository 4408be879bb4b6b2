"""The page of a version, from what its round stored: written when the round ends, and again when a person has decided about it."""

from __future__ import annotations

import logging
from pathlib import Path

from data_contracts.errors import LineageError, SkillstackError
from data_contracts.manifests import EvalReport, Verdict, file_ref, read_manifest
from evals.audit.forgetting import ForgettingAudit
from evals.gate.decide import GateEvidence
from evals.items import load_evaluation
from evals.report.answers import Answer, compare_answers, read_answers, write_answers
from evals.report.render import render_round
from flows.lineage import LedgerEntry, VersionRef, attach_files, find_version
from flows.lineage.registry.replaying import stored_reports
from flows.workspace.outcome import steps_after
from flows.workspace.round_facts import read_facts
from flows.workspace.workspace import Workspace, page_of

logger = logging.getLogger(__name__)

AUDIT, ANSWERS, PAGE = "audit.json", "answers.parquet", "report.html"
"""Files beside a verdict: the audit and the answers that its page shows, and the page as it was when the gate decided."""


def store_page(folder: Path, verdict: Verdict, audit: ForgettingAudit, evidence: GateEvidence) -> Verdict:
    """Write the page, and what it is made of, into the folder of a verdict. Returns the verdict with the digests of these files."""
    answers = compare_answers(evidence.candidate, evidence.champion, verdict.new_skill)
    (folder / AUDIT).write_text(audit.model_dump_json() + "\n", encoding="utf-8")
    write_answers(folder / ANSWERS, answers)
    render_round(verdict, audit, evidence, answers=answers, out=folder / PAGE)
    files = {"report": PAGE, "audit": AUDIT, "answers": ANSWERS}
    return verdict.model_copy(update={"files": {role: file_ref(folder, folder / name) for role, name in files.items()}})


def write_page(workspace: Workspace, version: VersionRef, audit: ForgettingAudit | None = None) -> Path:
    """Write the page of a registered version with its facts and decisions, from stored values alone unless the audit is at hand.

    Raises LineageError or ManifestError if something that it is made of is missing or was changed.
    """
    assert version.verdict is not None
    verdict = read_manifest(version.verdict, Verdict)
    evidence, report = _evidence(workspace, verdict), version.evaluation
    out = page_of(workspace, version.version)
    out.parent.mkdir(parents=True, exist_ok=True)
    return render_round(
        verdict,
        audit or _stored_audit(version.verdict, verdict),
        evidence,
        steps=steps_after(workspace, verdict, version, read_manifest(report, EvalReport, verify=False)) if report else (),
        facts=read_facts(workspace, version.version),
        answers=_stored_answers(version.verdict, verdict, evidence),
        out=out,
    )


def _evidence(workspace: Workspace, verdict: Verdict) -> GateEvidence | None:
    """Champion and candidate of a verdict; None where their items are not there any more."""
    folders = stored_reports(workspace.config.state_dir)
    candidate, champion = (folders.get(verdict.inputs.get(role, "")) for role in ("candidate", "champion"))
    if candidate is None or champion is None:
        return None
    both = load_evaluation(candidate), load_evaluation(champion)
    return GateEvidence(*both, {}, verdict.new_skill, verdict.attempts, verdict.bootstrap)


def _stored_audit(folder: Path, verdict: Verdict) -> ForgettingAudit:
    if "audit" not in verdict.files:
        raise LineageError(str(folder), "has no audit: it was decided by an earlier release", "its page stays as it was")
    return ForgettingAudit.model_validate_json((folder / verdict.files["audit"].path).read_text(encoding="utf-8"))


def _stored_answers(folder: Path, verdict: Verdict, evidence: GateEvidence | None) -> tuple[Answer, ...]:
    """The answers beside the verdict; where an earlier release stored none, they are compared again."""
    if "answers" in verdict.files:
        return read_answers(folder / verdict.files["answers"].path)
    return compare_answers(evidence.candidate, evidence.champion, verdict.new_skill) if evidence is not None else ()


def same_answers(workspace: Workspace, folder: Path, verdict: Verdict) -> bool | None:
    """Whether the answers stored beside a verdict are those that its reports give again; None where there are none to compare."""
    evidence = _evidence(workspace, verdict)
    if "answers" not in verdict.files or evidence is None:
        return None
    again = compare_answers(evidence.candidate, evidence.champion, verdict.new_skill)
    return read_answers(folder / verdict.files["answers"].path) == again


def decided_again(workspace: Workspace, entry: LedgerEntry) -> None:
    """Write the pages of the versions that a decision is about once more. The decision stands whether or not that can be done."""
    left = {entry.previous} if entry.action == "rollback" and entry.previous is not None else set()
    for number in sorted({entry.version} | left):
        try:
            version = find_version(workspace.lineage, number)
            if version.verdict is None or "audit" not in read_manifest(version.verdict, Verdict, verify=False).files:
                continue  # the base model, or a round of an earlier release
            attach_files(workspace.lineage, version, write_page(workspace, version))
        except (SkillstackError, OSError) as error:
            logger.warning("the page of version %s does not show this decision: %s", number, error)
