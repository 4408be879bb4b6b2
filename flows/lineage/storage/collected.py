"""A checkpoint whose dense weights were deleted: the record that replaces them, and the files that remain."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from data_contracts.errors import LineageError
from data_contracts.manifests import FileRef, Manifest, Record

COLLECTED_FILE = "collected.json"


class Collected(Record):
    """What replaces deleted weights: the headers that a rebuild needs, and how exact the test rebuild was."""

    headers: dict[str, str] = Field(description="safetensors header by path relative to the checkpoint")
    exact: bool = Field(description="the rebuilt files had the same bytes")
    rounding_steps: float = Field(description="largest difference, in rounding steps of the tensor")


def read_collected(checkpoint: Path) -> Collected:
    path = checkpoint / COLLECTED_FILE
    try:
        return Collected.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LineageError(str(path), "is missing or not readable, so the weights cannot be rebuilt", "restore it from backup") from error


def expected_files(manifest: Manifest, *, collected: bool) -> dict[str, FileRef]:
    """The files that must exist beside a manifest: for a collected checkpoint all but the dense weights."""
    return {role: ref for role, ref in manifest.files.items() if not (collected and is_weights(role))}


def is_weights(role: str) -> bool:
    return role.startswith("model/") and role.endswith(".safetensors")
