"""Export a registered version: a dense model folder, or its update as a LoRA adapter for its parent version."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Literal

from pydantic import Field

from data_contracts.digests import file_digest
from data_contracts.errors import CheckpointError, LineageError
from data_contracts.manifests import Record
from flows.config.model import SkillstackConfig
from flows.lineage import find_version, pull_version
from flows.workspace.workspace import open_workspace

Form = Literal["dense", "lora"]


class Export(Record):
    version: int
    form: Form
    folder: Path
    base: Path | None = Field(None, description="lora: the model to use the adapter with")
    ranks: dict[str, int] = Field(default_factory=dict, description="lora: rank of each layer")
    relative_error: float | None = Field(None, description="lora: norm of the part that was left out, relative to the update")


def export_version(config: SkillstackConfig, version: int, form: Form, folder: Path, energy: float = 1.0) -> Export:
    """Verify a version and write it to a new folder. Raises LineageError or CheckpointError if it cannot be exported.

    lora: `energy` in (0, 1] is the share of the squared singular values of each layer's update to keep; less gives smaller ranks.
    """
    lineage = open_workspace(config).lineage
    if form == "dense":
        pull_version(lineage, folder, version=version)
        return Export(version=version, form=form, folder=folder / "model")
    reference = find_version(lineage, version, verify=True)
    if reference.parent_version is None:
        raise CheckpointError(f"version {version}", "is the base model and has no update", "export it with --as dense")
    parent = find_version(lineage, reference.parent_version)
    from osft_engine.checkpoint.adapter import export_adapter  # imports torch

    base = parent.checkpoint / "model"
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        done = export_adapter(reference.checkpoint, partial, base=str(base), energy=energy)
        _put_in_place(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Export(
        version=version, form=form, folder=folder, base=base, ranks=dict(done.ranks), relative_error=done.relative_error
    )  # fmt: skip


def _put_in_place(made: Path, folder: Path) -> None:
    """Move a finished export to its folder. The folder may hold this export, also an incomplete one; anything else is refused."""
    there = [path for path in folder.iterdir() if not path.name.startswith(".")] if folder.exists() else []
    if any(not (made / path.name).is_file() or file_digest(path) != file_digest(made / path.name) for path in there):
        raise LineageError(str(folder), "is not empty", "give a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(made.iterdir()):
        os.replace(path, folder / path.name)
