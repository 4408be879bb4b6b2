"""Tensor files that are complete or absent, and the one error for a full disk."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from data_contracts.errors import CheckpointError, TrainingError
from data_contracts.files import replacing
from data_contracts.full_disk import full_disk_as


def save_tensors(tensors: Mapping[str, Tensor], path: Path, facts: Mapping[str, str] | None = None) -> None:
    """Replace a safetensors file atomically: a reader finds the new file or the one before it."""
    with replacing(path, one_writer=True) as temporary:
        save_file({name: value.detach().contiguous() for name, value in tensors.items()}, temporary, metadata=dict(facts or {}))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file. Raises CheckpointError where it is missing or damaged."""
    try:
        with safe_open(path, framework="pt") as stream:
            return {name: stream.get_tensor(name) for name in stream.keys()}, stream.metadata() or {}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(str(path), f"cannot be read: {error}", "remove it and run again, or restore it from backup") from error


def full_disk_explained(folder: Path) -> AbstractContextManager[None]:
    """Turn the several errors of a full disk into one TrainingError."""
    return full_disk_as(TrainingError, folder, "free some space and run the same command again: it goes on where it stopped")


def require_free_space(folder: Path, needed_bytes: int) -> None:
    """Refuse before the work rather than after it. Raises TrainingError with both numbers."""
    probe = folder
    while not probe.exists():
        probe = probe.parent
    free = shutil.disk_usage(probe).free
    if free < needed_bytes:
        what = f"needs about {needed_bytes / 1e9:.2f} GB of disk and {free / 1e9:.2f} GB are free"
        raise TrainingError(str(folder), what, "free some space or give another out_dir")
