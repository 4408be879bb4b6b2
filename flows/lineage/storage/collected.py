"""A checkpoint whose dense weights were deleted: what lies in their place, and which files are expected beside its manifest."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from data_contracts.errors import LineageError
from data_contracts.manifests import FileRef, Manifest, Record

COLLECTED_FILE = "collected.json"


class Collected(Record):
    """Kept in place of deleted weights: what is needed to lay them out again, and how well they came back when it was tried."""

    headers: dict[str, str] = Field(description="safetensors header by path relative to the checkpoint")
    exact: bool = Field(description="the rebuilt files had the same bytes")
    rounding_steps: float = Field(description="largest difference, in rounding steps of the tensor")


def read_collected(checkpoint: Path) -> Collected:
    path = checkpoint / COLLECTED_FILE
    try:
        return Collected.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LineageError(
            str(path), "is missing or not readable, so the weights cannot be laid out again", "restore it from backup"
        ) from error


def expected_files(manifest: Manifest, *, collected: bool) -> dict[str, FileRef]:
    """What must lie beside a manifest: of a collected checkpoint everything but the dense weights."""
    return {role: ref for role, ref in manifest.files.items() if not (collected and is_weights(role))}


def is_weights(role: str) -> bool:
    return role.startswith("model/") and role.endswith(".safetensors")
