"""What a round changed, beside the dense weights: the exact factors of every target, dW = left right^T, and the new values of what
`train_other` trained. Every other form is made from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from data_contracts.model.round_update import UpdateFacts, read_update_facts, write_update_facts
from osft_engine.compute.distributed import whole
from osft_engine.files import read_tensors, save_tensors
from osft_engine.subspace.linear import UpdatedLinear
from osft_engine.subspace.protection import LayerUpdate

_VALUE = "value:"


@torch.no_grad()
def update_factors(layers: Mapping[str, UpdatedLinear]) -> dict[str, LayerUpdate]:
    """The exact update of every layer, float32; layers that share their input directions share `right`.

    The merged weight is W plus the product of these very factors, so that stored they rebuild it to the byte.
    """
    found: dict[str, LayerUpdate] = {}
    for name, layer in layers.items():
        update = layer.allowed.factors(whole(layer.core.detach()).to(layer.allowed.device))
        found[name] = LayerUpdate(update.left.cpu(), update.right)
    return found


@dataclass(frozen=True)
class RoundUpdate:
    """layers: target -> dW. others: parameter -> its new value, for what is trained outside the targets.
    transposed: targets whose weight lies as in x out in the model's files (GPT-2's Conv1D).
    experts: modules of fused experts -> how many each has; their targets are named `<module>.<number>.<matrix>`."""

    layers: Mapping[str, LayerUpdate]
    others: Mapping[str, Tensor] = field(default_factory=dict)
    transposed: tuple[str, ...] = ()
    experts: Mapping[str, int] = field(default_factory=dict)


def save_update(found: RoundUpdate, path: Path) -> None:
    """Write `<layer>.left` (m x r) and `<layer>.right` (n x r), or `<layer>.dense` (m x n) where the update has no thin factors, and
    `value:<parameter>` for what else was trained.

    Layers that share their input directions store them once; the metadata says under which name.
    """
    update = found.layers
    tensors: dict[str, Tensor] = {f"{_VALUE}{name}": value for name, value in found.others.items()}
    shared: dict[int, str] = {}
    rights: dict[str, str] = {}
    for name, layer in update.items():
        if layer.right is None:
            tensors[f"{name}.dense"] = layer.left
            continue
        tensors[f"{name}.left"] = layer.left
        rights[name] = shared.setdefault(id(layer.right), f"{name}.right")
        if rights[name] == f"{name}.right":
            tensors[f"{name}.right"] = layer.right.cpu()
    save_tensors(tensors, path, write_update_facts(UpdateFacts(rights, found.transposed, found.experts)))


def read_update(path: Path) -> RoundUpdate:
    """Read what `save_update` wrote. Raises CheckpointError where the file cannot be read."""
    tensors, metadata = read_tensors(path)
    facts = read_update_facts(metadata)
    others = {key.removeprefix(_VALUE): tensors.pop(key) for key in list(tensors) if key.startswith(_VALUE)}
    found = {name: LayerUpdate(tensors[f"{name}.left"], tensors[right]) for name, right in facts.rights.items()}
    dense = {key.removesuffix(".dense"): LayerUpdate(value, None) for key, value in tensors.items() if key.endswith(".dense")}
    return RoundUpdate(found | dense, others, facts.transposed, facts.experts)


def load_update(path: Path) -> Mapping[str, LayerUpdate]:
    """The targets' updates alone. Raises CheckpointError where the file cannot be read."""
    return read_update(path).layers
