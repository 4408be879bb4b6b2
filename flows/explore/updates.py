"""The updates of view 2: the gradient of the loss, or the update of a round in the lineage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from torch import Tensor

from data_contracts.errors import CheckpointError
from flows.explore.answer import Missing
from flows.explore.material import Measurements, weight_difference
from flows.explore.scene import Scene
from flows.explore.views.dynamics import title_of
from osft_engine.config import Protect

GRADIENT = "gradient of the loss on sample text"
PROTECTIONS: tuple[Protect, ...] = get_args(Protect)


@dataclass(frozen=True)
class Source:
    """A named update. before, after: model folders of a round; None for the gradient."""

    name: str
    before: Path | None = None
    after: Path | None = None


def list_sources(scene: Scene, model_label: str) -> dict[str, Source]:
    """The gradient and, for a version of the lineage, the updates of the rounds that were trained from it (blocked ones too)."""
    found = {GRADIENT: Source(GRADIENT)}
    if isinstance(scene.records, Missing):
        return found
    by_version = {record.version: record for record in scene.records if record.version is not None}
    subject = scene.subjects()[model_label].folder
    for record in scene.records:
        parent = None if record.parent_version is None else by_version.get(record.parent_version)
        if parent is None or record.checkpoint is None or parent.checkpoint is None or parent.checkpoint / "model" != subject:
            continue
        name = f"update of {title_of(record)} ({record.method}, {record.decision or 'no verdict'})"
        found[name] = Source(name, parent.checkpoint / "model", record.checkpoint / "model")
    return found


def rotated_by_protection(measured: Measurements, source: Source, layer: str) -> dict[Protect, Tensor]:
    """The update of one layer in the frame of each protection. Raises CheckpointError if its weights are missing."""
    if source.before is None or source.after is None:
        return {protect: measured.rotated_gradient(layer, protect) for protect in PROTECTIONS}
    for folder in (source.before, source.after):
        if not folder.is_dir():
            raise CheckpointError(str(folder), "does not exist: the weights were deleted", "choose another update")
    dW = weight_difference(source.before, source.after, layer)
    by_inputs, by_weight = measured.rotated(layer, dW, "activations"), measured.rotated(layer, dW, "weights")
    return {"activations": by_inputs, "weights": by_weight, "weights_block": by_weight}
