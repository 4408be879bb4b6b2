"""Recompute a verdict from the stored items: the same evidence must give the same verdict, byte for byte."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from data_contracts.digests import file_digest
from data_contracts.errors import EvaluationError, LineageError, ManifestError
from data_contracts.manifests import MANIFEST_NAME, Verdict, manifest_digest, read_manifest
from evals.gate.replay import replay
from flows.lineage.storage.connection import Lineage
from flows.lineage.storage.records import VersionRef


def stored_reports(state_dir: Path) -> dict[str, Path]:
    """Digest of the manifest -> folder, for all evaluations in the state directory."""
    return {file_digest(manifest): manifest.parent for manifest in sorted((state_dir / "stages" / "evaluate").glob(f"*/{MANIFEST_NAME}"))}


def recompute(state_dir: Path, verdict_folder: Path, reports: Mapping[str, Path] | None = None) -> Verdict:
    """The verdict, recomputed from the reports that the stored one names. `reports`: the result of `stored_reports`, if known.

    Raises ManifestError if a report is missing or its files changed, EvaluationError if the rules are not those of this release.
    """
    stored = read_manifest(verdict_folder, Verdict)
    reports = stored_reports(state_dir) if reports is None else reports
    missing = [role for role in ("candidate", "champion") if role not in stored.inputs]
    if missing:
        raise EvaluationError(f"verdict {verdict_folder}", f"names no {missing[0]} report", "run the round again")
    folders: dict[str, Path] = {}
    for role, digest in stored.inputs.items():
        if digest not in reports:
            where = f"evaluation {digest[:12]} ({role})"
            raise ManifestError(
                where, f"is not under {state_dir / 'stages' / 'evaluate'}, or was changed", "restore the state directory from backup"
            )
        folders[role] = reports[digest]
    return replay(verdict_folder, folders)


def confirm_verdict(lineage: Lineage, target: VersionRef, verdict: Verdict) -> None:
    """Raise LineageError unless `verdict` is the version's registered one and can be recomputed from the stored items."""
    where = f"version {target.version}"
    if target.verdict is None or manifest_digest(verdict) != target.verdict_sha256:
        raise LineageError(where, "this is not the verdict that it was registered with", "promote it with its own verdict")
    if manifest_digest(read_manifest(target.verdict, Verdict)) != target.verdict_sha256:
        raise LineageError(str(target.verdict), "is not the verdict that was registered", "restore it from backup")
    again = recompute(lineage.state_dir, target.verdict)
    if manifest_digest(again) != target.verdict_sha256:
        what = f"its verdict is {verdict.decision.value}, but recomputed from the stored items it is {again.decision.value}"
        raise LineageError(where, what, "it was edited: run the round again, and see `skillstack gate replay`")
