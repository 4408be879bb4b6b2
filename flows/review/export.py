"""Export a registered version: a dense model folder, or its updates as a LoRA adapter for the base model or for its parent version."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from data_contracts.digests import file_digest
from data_contracts.errors import CheckpointError, LineageError
from data_contracts.manifests import Record
from evals.numbers import plain
from flows.config.model import SkillstackConfig
from flows.lineage import Adapter, Lineage, VersionRef, find_version, pull_version, read_ancestry, write_card
from flows.lineage.card import is_card, is_hub_id, original_base
from flows.workspace.workspace import open_workspace

Form = Literal["dense", "lora"]
Since = Literal["base", "parent"]


class Export(Record):
    version: int
    form: Form
    folder: Path
    base: str | None = Field(None, description="lora: the model to use the adapter with, a folder or an id of the hub")
    ranks: dict[str, int] = Field(default_factory=dict, description="lora: rank of each layer")
    relative_error: float | None = Field(None, description="lora: norm of the part that was left out, relative to the update")


def export_version(config: SkillstackConfig, version: int, form: Form, folder: Path, energy: float = 1.0, since: Since = "base") -> Export:
    """Verify a version and write it, with its model card, to a new folder. Raises LineageError or CheckpointError if that cannot be.

    lora: `since` says what the adapter holds: every round since the base model, or this round alone, for its parent version. `energy` in
    (0, 1] is the share of the squared singular values of each layer's update to keep; less gives smaller ranks.
    """
    lineage = open_workspace(config).lineage
    if form == "dense":
        pull_version(lineage, folder, version=version)
        return Export(version=version, form=form, folder=folder / "model")
    reference = find_version(lineage, version, verify=True)
    if reference.parent_version is None:
        raise CheckpointError(f"version {version}", "is the base model and has no update", "export it with --as dense")
    chain = read_ancestry(lineage, version)[0 if since == "base" else -2 :]
    base = _name_of(lineage, chain[0])
    from osft_engine.checkpoint.adapter import export_adapter  # imports torch

    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        done = export_adapter([each.checkpoint for each in chain[1:]], partial, base=base, energy=energy)
        write_card(lineage, version, partial, _about(chain, base, done.relative_error))
        _put_in_place(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Export(
        version=version, form=form, folder=folder, base=base, ranks=dict(done.ranks), relative_error=done.relative_error
    )  # fmt: skip


def _name_of(lineage: Lineage, start: VersionRef) -> str:
    """The model that an adapter begins from: the base model's id where it came from the hub, else the folder of the registered version."""
    name = original_base(lineage, start) if start.parent_version is None else None
    return name if name is not None and is_hub_id(name) else str(start.checkpoint / "model")


def _about(chain: Sequence[VersionRef], base: str, relative_error: float) -> Adapter:
    rounds = f"rounds {chain[1].round} to {chain[-1].round}" if len(chain) > 2 else f"round {chain[-1].round} alone"
    exact = "exactly" if relative_error == 0.0 else f"up to a relative error of {plain(relative_error, 2)}"
    about = f"This folder holds the updates of {rounds} as a LoRA adapter, {exact}. Use it with the model of version {chain[0].version}"
    return Adapter(base=base, about=f"{about} (`{base}`, sha256 `{chain[0].model_sha256}`) and no other.")


def _put_in_place(made: Path, folder: Path) -> None:
    """Move a finished export to its folder. The folder may hold this export, also an incomplete one; anything else is refused."""
    found = [path for path in folder.iterdir() if not path.name.startswith(".")] if folder.exists() else []
    there = [path for path in found if not is_card(path)]
    if any(not (made / path.name).is_file() or file_digest(path) != file_digest(made / path.name) for path in there):
        raise LineageError(str(folder), "is not empty", "give a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(made.iterdir()):
        os.replace(path, folder / path.name)
