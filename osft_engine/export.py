"""The update beside the dense weights: its exact factors, dW = left right^T, from which every other form is made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from osft_engine.distributed import whole
from osft_engine.files import read_tensors, save_tensors
from osft_engine.linear import UpdatedLinear
from osft_engine.protection import LayerUpdate


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
