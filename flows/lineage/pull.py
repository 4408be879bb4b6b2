"""Copy a version's model folder for serving: verified byte by byte, moved into place in one step, with its model card beside it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from data_contracts.errors import LineageError, ManifestError
from data_contracts.manifests import CheckpointManifest, manifest_digest, read_manifest, verify_files, write_manifest
from flows.lineage.card import write_card
from flows.lineage.checks.verification import require_vouched
from flows.lineage.model_signature import SIGNATURE_NAME
from flows.lineage.registry.promotion import current_champion
from flows.lineage.registry.versions import CHAMPION, aliases, find_version, verify_reference
from flows.lineage.storage.connection import Lineage, plainly
from flows.lineage.storage.records import VersionRef


def pull_version(lineage: Lineage, target: Path, *, alias: str = CHAMPION, version: int | None = None) -> VersionRef:
    """Copy the model of an alias (or of a version number) to `target/model`, verified before and after.

    For `champion` the alias is also compared with the ledger. An OpenSSF signature of the model is copied to `target/model.sig`.
    """
    reference = current_champion(lineage, verify=False) if alias == CHAMPION and version is None else _find(lineage, alias, version)
    if reference is None:
        raise LineageError(f"alias {alias}", "does not exist", "see `skillstack history`")
    require_vouched(lineage, reference.version)
    pull_model(reference, target)
    write_card(lineage, reference.version, target / "model")
    if (signature := reference.checkpoint / SIGNATURE_NAME).is_file():
        shutil.copyfile(signature, target / SIGNATURE_NAME)
    return reference


@plainly
def _find(lineage: Lineage, alias: str, version: int | None) -> VersionRef | None:
    number = version if version is not None else aliases(lineage).get(alias)
    return None if number is None else find_version(lineage, number)


def pull_model(reference: VersionRef, target: Path) -> CheckpointManifest:
    """Write `target/model` (loads with from_pretrained) and `target/manifest.json`, which covers the model only.

    A target that already holds this model is only verified; one that holds anything else is refused.
    """
    manifest = verify_reference(reference)
    served = manifest.model_copy(update={"files": {role: ref for role, ref in manifest.files.items() if role.startswith("model/")}})
    if target.exists() and any(target.iterdir()):
        _require_same(target, served)
        return served
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        for ref in served.files.values():
            (partial / ref.path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(reference.checkpoint / ref.path, partial / ref.path)
        verify_files(partial, served.files)  # the copy, not the original
        write_manifest(partial, served)
        if target.exists():
            target.rmdir()
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return served


def _require_same(target: Path, wanted: CheckpointManifest) -> None:
    try:
        there = read_manifest(target, CheckpointManifest)
    except ManifestError as error:
        raise LineageError(str(target), f"is not empty and holds no complete model: {error.what}", "give a new folder") from error
    if manifest_digest(there) != manifest_digest(wanted):
        raise LineageError(str(target), f"holds another model ({there.model_sha256[:12]})", "give a new folder")
