"""Writes that are whole or absent, and the one message for a disk that is full."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from data_contracts.errors import CheckpointError, TrainingError
from data_contracts.full_disk import WHAT, is_full_disk


def save_tensors(tensors: Mapping[str, Tensor], path: Path, facts: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file in one step: a reader finds the whole file or the one before it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    try:
        save_file({name: value.detach().contiguous() for name, value in tensors.items()}, temporary, metadata=dict(facts or {}))
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file. Raises CheckpointError where it is missing or damaged."""
    try:
        with safe_open(path, framework="pt") as stream:
            return {name: stream.get_tensor(name) for name in stream.keys()}, stream.metadata() or {}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(str(path), f"cannot be read: {error}", "remove it and run again, or restore it from backup") from error


@contextmanager
def full_disk_explained(folder: Path) -> Iterator[None]:
    """Turn the many faces of a full disk into one TrainingError."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        if not is_full_disk(error):
            raise
        raise TrainingError(str(folder), WHAT, "free some space and run the same command again: it goes on where it stopped") from error


def require_free_space(folder: Path, needed_bytes: int) -> None:
    """Refuse before the work rather than after it. Raises TrainingError with both numbers."""
    probe = folder
    while not probe.exists():
        probe = probe.parent
    free = shutil.disk_usage(probe).free
    if free < needed_bytes:
        what = f"needs about {needed_bytes / 1e9:.2f} GB of disk and {free / 1e9:.2f} GB are free"
        raise TrainingError(str(folder), what, "free some space or give another out_dir")
