"""A smaller update without training: W + a dW for a in (0, 1].

A round that is blocked for a loss, and learned more than it must, may be evaluated again at a smaller a.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_contracts.digests import model_digest, model_files
from data_contracts.errors import CheckpointError, ConfigError
from data_contracts.manifests import CheckpointManifest, read_manifest, write_manifest
from osft_engine.checkpoint.read import load_model, model_file_refs, other_file_refs, write_model
from osft_engine.checkpoint.update import RoundUpdate, read_update, save_update
from osft_engine.config import TrainConfig
from osft_engine.files import full_disk_explained
from osft_engine.method.quantized import add_update
from osft_engine.subspace.protection import LayerUpdate

_COPIED = {"ledger": "ledger.safetensors", "buffer": "buffer.jsonl", "metrics": "metrics.jsonl"}


def scale_candidate(checkpoint: Path, base: Path, out_dir: Path, scale: float) -> CheckpointManifest:
    """Write the checkpoint that `scale` times the update of `checkpoint` makes of `base`, the model that the round started from.

    Subspace memory and buffer are those of the full update. Raises ConfigError for a scale outside (0, 1] and CheckpointError where `base`
    is another model or the checkpoint has no update.
    """
    if not 0.0 < scale <= 1.0:
        raise ConfigError("scale", f"is {scale}, not in (0, 1]", "1.0 is the update as it was trained")
    manifest = read_manifest(checkpoint, CheckpointManifest)
    if "update" not in manifest.files:
        raise CheckpointError(str(checkpoint), f"was made by method {manifest.method} and has no osft update", "train with method osft")
    if model_digest(model_files(base)) != manifest.parent_sha256:
        raise CheckpointError(str(base), "is not the model that this checkpoint was trained from", "give the champion of that round")
    found = read_update(checkpoint / manifest.files["update"].path)
    layers = {name: LayerUpdate(scale * each.left, each.right) for name, each in found.layers.items()}
    with full_disk_explained(out_dir):
        out_dir.mkdir(parents=True, exist_ok=True)
        trained = {name: value for name, value in manifest.config.items() if name in TrainConfig.model_fields}
        config = TrainConfig.model_validate(trained).model_copy(update={"quantize": "none"})  # the sum is taken of dense weights
        model = load_model(base, config)
        add_update(model, layers)
        others = move_others(model, found.others, scale)
        write_model(model, base, out_dir / "model", config)
        save_update(RoundUpdate(layers, others, found.transposed, found.experts), out_dir / "update.safetensors")
        for role, name in _COPIED.items():
            if role in manifest.files:
                shutil.copyfile(checkpoint / manifest.files[role].path, out_dir / name)
        refs, digest = model_file_refs(out_dir)
        files = refs | other_file_refs(out_dir, {"update": "update.safetensors", **_COPIED})
        config_written = manifest.config | {"update_scale": scale}
        scaled = manifest.model_copy(update={"files": files, "model_sha256": digest, "config": config_written})
        write_manifest(out_dir, scaled)
    return scaled


@torch.no_grad()
def move_others(model: Any, values: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """Move parameters outside the targets by `scale` of the way to their trained values, in place. Returns the new values."""
    parameters = dict(model.named_parameters())
    for name, value in values.items():
        before = parameters[name]
        before.copy_(torch.lerp(before.to(torch.float32), value.to(before.device, torch.float32), scale))
    return {name: parameters[name].detach().cpu().clone() for name in values}
