"""A registered version in the form that a runtime wants: a dense model folder, or its update as a LoRA adapter on its parent."""

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
    base: Path | None = Field(None, description="lora: the model that the adapter belongs on")
    ranks: dict[str, int] = Field(default_factory=dict, description="lora: rank by layer")
    relative_error: float | None = Field(None, description="lora: size of what was cut off, relative to the update")


def export_version(config: SkillstackConfig, version: int, form: Form, folder: Path, energy: float = 1.0) -> Export:
    """Write a version to a new folder, its files verified first. Raises LineageError or CheckpointError where it cannot be exported.

    lora: `energy` in (0, 1] is the share of each layer's squared update that is kept; the rest is cut to smaller ranks.
    """
    lineage = open_workspace(config).lineage
    if form == "dense":
        pull_version(lineage, folder, version=version)
        return Export(version=version, form=form, folder=folder / "model")
    reference = find_version(lineage, version, verify=True)
    if reference.parent_version is None:
        raise CheckpointError(f"version {version}", "is the base model and has no update", "export it dense")
    parent = find_version(lineage, reference.parent_version)
    from osft_engine.checkpoint.adapter import export_adapter  # loads torch

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
    """Move a finished export in. A folder that holds this very export, whole or cut short, is made whole; anything else is refused."""
    there = [path for path in folder.iterdir() if not path.name.startswith(".")] if folder.exists() else []
    if any(not (made / path.name).is_file() or file_digest(path) != file_digest(made / path.name) for path in there):
        raise LineageError(str(folder), "is not empty", "give a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(made.iterdir()):
        os.replace(path, folder / path.name)
