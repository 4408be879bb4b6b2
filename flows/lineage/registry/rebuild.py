"""Rebuild the deleted dense weights of a version from its parent's weights and its stored update, recursively up to the base model."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from data_contracts.digests import file_digest, model_digest
from data_contracts.errors import CheckpointError, LineageError
from data_contracts.manifests import CheckpointManifest, file_ref, manifest_digest, read_manifest, verify_files, write_manifest
from data_contracts.model.header import read_header
from flows.lineage.registry.entries import promotion_lock, record_note
from flows.lineage.registry.versions import as_reference, find_version, raw_versions, verify_reference
from flows.lineage.storage.collected import expected_files, is_weights, read_collected
from flows.lineage.storage.connection import PREFIX, Lineage, plainly
from flows.lineage.storage.records import VersionRef
from flows.lineage.storage.weights import write_weights


@plainly
def rebuild_version(lineage: Lineage, version: int, *, out: Path | None = None, actor: str) -> CheckpointManifest:
    """Restore the weights of a version in place, if they are the same byte for byte; or write a complete checkpoint to `out`.

    A checkpoint in `out` that is equal up to rounding only has its own digests and manifest.
    Raises LineageError or CheckpointError if the weights cannot be rebuilt.
    """
    reference = find_version(lineage, version)
    manifest = _registered_manifest(reference)
    if reference.collected is None and out is None:
        return manifest
    if "update" not in manifest.files:
        raise _no_update(reference, manifest)
    headers = live_headers(reference.checkpoint, manifest) if reference.collected is None else read_collected(reference.checkpoint).headers
    with TemporaryDirectory(dir=lineage.state_dir, prefix=".rebuild-") as scratch:
        again = Path(scratch) / "again"
        rebuild_weights(lineage, reference, manifest, headers, again, Path(scratch))
        if out is not None:
            if reference.collected is not None and read_collected(reference.checkpoint).exact:
                _require_same_bytes(manifest, again, f"version {version}")
            return _write_checkpoint(reference, manifest, again, out)
        _put_back(reference, manifest, again)
    _unmark(lineage, reference, actor)
    return manifest


def _registered_manifest(reference: VersionRef) -> CheckpointManifest:
    """The manifest that was registered, after a check of all files that are there: what a rebuild is computed from."""
    if reference.collected is None:
        return verify_reference(reference)
    manifest = read_manifest(reference.checkpoint, CheckpointManifest, verify=False)
    if manifest_digest(manifest) != reference.manifest_sha256:
        raise LineageError(str(reference.checkpoint), "its manifest is not the one that was registered", "restore it from backup")
    verify_files(reference.checkpoint, expected_files(manifest, collected=True))
    return manifest


def _require_same_bytes(manifest: CheckpointManifest, again: Path, where: str) -> None:
    """Raises LineageError where weights that gc had rebuilt byte for byte come out as others: another torch, or another CPU."""
    if any(file_digest(again / ref.path) != ref.sha256 for role, ref in manifest.files.items() if is_weights(role)):
        what = "was rebuilt byte for byte when its weights were deleted, and now comes out otherwise: they are not its weights"
        raise LineageError(where, what, "rebuild it where they were deleted, or restore them from backup")


def _no_update(reference: VersionRef, manifest: CheckpointManifest) -> CheckpointError:
    what = f"has no stored update (method {manifest.method})"
    return CheckpointError(str(reference.checkpoint), what, "its weights cannot be rebuilt, keep them")


def live_headers(checkpoint: Path, manifest: CheckpointManifest) -> dict[str, str]:
    """The headers of the existing weight files, by path."""
    return {
        ref.path: read_header(checkpoint / ref.path, "restore it from backup").text
        for role, ref in manifest.files.items()
        if is_weights(role)
    }


def rebuild_weights(
    lineage: Lineage, reference: VersionRef, manifest: CheckpointManifest, headers: Mapping[str, str], target: Path, scratch: Path
) -> None:
    """Write the weight files of a version under `target`. Deleted weights of its parent are rebuilt first, under `scratch`."""
    if reference.parent_version is None or "update" not in manifest.files:
        raise _no_update(reference, manifest)
    parent = find_version(lineage, reference.parent_version)
    parent_model, above = parent.checkpoint / "model", _registered_manifest(parent)
    if parent.collected is not None:
        grown = scratch / f"version-{parent.version}"
        rebuild_weights(lineage, parent, above, read_collected(parent.checkpoint).headers, grown, scratch)
        parent_model = grown / "model"
    for path, header in headers.items():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        write_weights(header, parent_model, reference.checkpoint / manifest.files["update"].path, target / path)


def _put_back(reference: VersionRef, manifest: CheckpointManifest, again: Path) -> None:
    weights = [ref for role, ref in manifest.files.items() if is_weights(role)]
    for ref in weights:
        if file_digest(again / ref.path) != ref.sha256:
            way_out = f"write it as another checkpoint: skillstack rebuild {reference.version} --out DIR"
            raise LineageError(str(reference.checkpoint / ref.path), "can be rebuilt up to rounding only, not byte for byte", way_out)
    for ref in weights:
        os.replace(again / ref.path, reference.checkpoint / ref.path)


def _write_checkpoint(reference: VersionRef, manifest: CheckpointManifest, again: Path, out: Path) -> CheckpointManifest:
    """Write the complete checkpoint to another folder, the manifest last."""
    if out.exists() and any(out.iterdir()):
        raise LineageError(str(out), "is not empty", "give a new folder")
    for role, ref in manifest.files.items():
        (out / ref.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile((again if is_weights(role) else reference.checkpoint) / ref.path, out / ref.path)
    files = {role: file_ref(out, out / ref.path) for role, ref in manifest.files.items()}
    model = model_digest({role.removeprefix("model/"): ref.sha256 for role, ref in files.items() if role.startswith("model/")})
    rebuilt = manifest.model_copy(update={"files": files, "model_sha256": model})
    write_manifest(out, rebuilt)
    return rebuilt


def _unmark(lineage: Lineage, reference: VersionRef, actor: str) -> None:
    """Mark all versions that share this checkpoint as restored."""
    with promotion_lock(lineage):
        for raw in raw_versions(lineage):
            other = as_reference(lineage, raw)
            if other.checkpoint == reference.checkpoint and other.collected is not None:
                record_note(lineage, "rebuild", other, reason="weights rebuilt byte for byte", actor=actor)
                lineage.client.delete_model_version_tag(lineage.model_name, str(other.version), PREFIX + "collected")
