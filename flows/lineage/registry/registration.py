"""Register a round's version in registry and ledger, and record later evaluations on more suites."""

from __future__ import annotations

from pathlib import Path

from data_contracts.manifests import CheckpointManifest, EvalReport, Verdict, manifest_digest
from flows.lineage.model_signature import sign_model
from flows.lineage.registry.entries import finish_pending, promotion_lock, record_note
from flows.lineage.registry.ledger import read_ledger
from flows.lineage.registry.versions import find_version, record_version, tag_reevaluation, verify_reference
from flows.lineage.storage.connection import Lineage, plainly
from flows.lineage.storage.records import RoundRun, VersionRef


@plainly
def register_candidate(
    lineage: Lineage,
    parent: RoundRun,
    checkpoint: Path,
    manifest: CheckpointManifest,
    *,
    evaluation: Path | None = None,
    report: EvalReport | None = None,
    verdict_folder: Path | None = None,
    verdict: Verdict | None = None,
    drop: Path | None = None,
    sources: str = "",
) -> VersionRef:
    """Register the candidate of a round, whatever the verdict. Weights are not copied: path and digests are tags.

    `sources`: the user's own files as they were when the round began to read them (`describe_sources`); `verify` reports when they have
    changed."""
    version = record_version(
        lineage,
        parent,
        checkpoint,
        manifest,
        evaluation=evaluation,
        report=report,
        verdict_folder=verdict_folder,
        verdict=verdict,
        drop=drop,
        sources=sources,
    )
    if lineage.keys.models:
        sign_model(lineage.keys, version.checkpoint)
    record_registration(lineage, version)
    return version


@plainly
def record_reevaluation(lineage: Lineage, version: int, report: EvalReport, folder: Path) -> None:
    """Record a later report on more suites with a version. Verdict and first report do not change."""
    tag_reevaluation(lineage, version, report, folder)
    record_measurement(lineage, version, report)


def record_registration(lineage: Lineage, target: VersionRef) -> None:
    """The ledger's first entry on a version, with the digest of its tags; repeating it changes nothing."""
    with promotion_lock(lineage):
        finish_pending(lineage)
        if not any(entry.version == target.version and entry.action == "register" for entry in read_ledger(lineage)):
            said = f"verdict {target.decision}" if target.decision else "the base model" if target.method == "base" else "no verdict"
            record_note(lineage, "register", target, reason=f"round {target.round}: {said}", actor="skillstack")


def record_measurement(lineage: Lineage, version: int, report: EvalReport) -> None:
    """Record the digest of a later report on a version; repeating it changes nothing."""
    digest = manifest_digest(report)
    with promotion_lock(lineage):
        finish_pending(lineage)
        if not any(entry.version == version and entry.evidence_sha256 == digest for entry in read_ledger(lineage)):
            target = find_version(lineage, version)
            record_note(lineage, "reevaluate", target, reason="evaluated on more suites", actor="skillstack", evidence_sha256=digest)


@plainly
def sign_version(lineage: Lineage, version: int) -> Path:
    """Sign the model folder of a registered version, after its files were verified; gives the signature's path."""
    reference = find_version(lineage, version)
    verify_reference(reference)
    return sign_model(lineage.keys, reference.checkpoint)
