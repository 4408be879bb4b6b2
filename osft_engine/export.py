"""The update beside the dense weights: its exact factors, dW = left right^T, from which every other form is made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from osft_engine.distributed import whole
from osft_engine.files import read_tensors, save_tensors
from osft_engine.linear import UpdatedLinear


@dataclass(frozen=True)
class LayerUpdate:
    """dW (m x n) of one layer: left (m x r) times right^T (n x r), or `left` alone where the update has no thin factors."""

    left: Tensor
    right: Tensor | None

    def dense(self) -> Tensor:
        return self.left if self.right is None else self.left @ self.right.T


@torch.no_grad()
def update_factors(layers: Mapping[str, UpdatedLinear]) -> dict[str, LayerUpdate]:
    """The exact update of every layer, float32 on the CPU. Layers that share their input directions share `right`."""
    found: dict[str, LayerUpdate] = {}
    for name, layer in layers.items():
        allowed, core = layer.allowed, whole(layer.core.detach()).cpu()
        if allowed.right is None:
            found[name] = LayerUpdate(allowed.expand(core.to(allowed.device)).cpu(), None)
            continue
        left = core if allowed.left is None else allowed.left.cpu() @ core
        found[name] = LayerUpdate(left, allowed.right)
    return found


def save_update(update: Mapping[str, LayerUpdate], path: Path) -> None:
    """Write `<layer>.left` (m x r) and `<layer>.right` (n x r), or `<layer>.dense` (m x n) where the update has no thin factors.

    Layers that share their input directions store them once; the metadata says under which name.
    """
    tensors: dict[str, Tensor] = {}
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
    save_tensors(tensors, path, {"rights": json.dumps(rights)})


def load_update(path: Path) -> dict[str, LayerUpdate]:
    """Read what `save_update` wrote. Raises CheckpointError where the file cannot be read."""
    tensors, facts = read_tensors(path)
    found = {name: LayerUpdate(tensors[f"{name}.left"], tensors[right]) for name, right in json.loads(facts["rights"]).items()}
    dense = {key.removesuffix(".dense"): LayerUpdate(value, None) for key, value in tensors.items() if key.endswith(".dense")}
    return found | dense
