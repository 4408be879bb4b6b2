"""The update beside the dense weights: its exact factors, dW = left right^T, from which every other form is made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from osft_engine.files import save_tensors
from osft_engine.linear import UpdatedLinear


@torch.no_grad()
def save_update(layers: Mapping[str, UpdatedLinear], path: Path) -> None:
    """Write `<layer>.left` (m x r) and `<layer>.right` (n x r), or `<layer>.dense` (m x n) where the update has no thin factors.

    Layers that share their input directions store them once; the metadata says under which name.
    """
    tensors: dict[str, Tensor] = {}
    shared: dict[int, str] = {}
    rights: dict[str, str] = {}
    for name, layer in layers.items():
        allowed, core = layer.allowed, layer.core.detach()
        if allowed.right is None:
            tensors[f"{name}.dense"] = allowed.expand(core).cpu()
            continue
        tensors[f"{name}.left"] = (core if allowed.left is None else allowed.left.to(core) @ core).cpu()
        rights[name] = shared.setdefault(id(allowed.right), f"{name}.right")
        if rights[name] == f"{name}.right":
            tensors[f"{name}.right"] = allowed.right.cpu()
    save_tensors(tensors, path, {"rights": json.dumps(rights)})
