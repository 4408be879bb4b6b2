"""One dial after training: the update is linear, so W + a dW for a in (0, 1] costs no training.

A round that is held for a loss, with gain to spare, may be offered again at a smaller a.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from data_contracts.digests import model_digest, model_files
from data_contracts.errors import CheckpointError, ConfigError
from data_contracts.manifests import CheckpointManifest, read_manifest, write_manifest
from osft_engine.checkpoint import load_model, model_file_refs, other_file_refs, write_model
from osft_engine.config import TrainConfig
from osft_engine.export import load_update, save_update
from osft_engine.files import full_disk_explained
from osft_engine.protection import LayerUpdate
from osft_engine.quantized import add_update

_COPIED = {"ledger": "ledger.safetensors", "buffer": "buffer.jsonl", "metrics": "metrics.jsonl"}


def scale_candidate(checkpoint: Path, base: Path, out_dir: Path, scale: float) -> CheckpointManifest:
    """Write the checkpoint that `scale` times the update of `checkpoint` makes of `base`, the model that the round started from.

    Ledger and buffer are those of the whole update. Raises ConfigError for a scale outside (0, 1] and CheckpointError where `base` is
    another model or the checkpoint has no update.
    """
    if not 0.0 < scale <= 1.0:
        raise ConfigError("scale", f"is {scale}, not in (0, 1]", "1.0 is the update as it was trained")
    manifest = read_manifest(checkpoint, CheckpointManifest)
    if "update" not in manifest.files:
        raise CheckpointError(str(checkpoint), f"was made by method {manifest.method} and has no osft update", "train with method osft")
    if model_digest(model_files(base)) != manifest.parent_sha256:
        raise CheckpointError(str(base), "is not the model that this checkpoint was trained from", "give the champion of that round")
    update = {
        name: LayerUpdate(scale * each.left, each.right) for name, each in load_update(checkpoint / manifest.files["update"].path).items()
    }
    with full_disk_explained(out_dir):
        out_dir.mkdir(parents=True, exist_ok=True)
        trained = {name: value for name, value in manifest.config.items() if name in TrainConfig.model_fields}
        model = load_model(base, TrainConfig.model_validate(trained))
        add_update(model, update)
        write_model(model, base, out_dir / "model")
        save_update(update, out_dir / "update.safetensors")
        for role, name in _COPIED.items():
            if role in manifest.files:
                shutil.copyfile(checkpoint / manifest.files[role].path, out_dir / name)
        refs, digest = model_file_refs(out_dir)
        files = refs | other_file_refs(out_dir, {"update": "update.safetensors", **_COPIED})
        config = manifest.config | {"update_scale": scale}
        scaled = manifest.model_copy(update={"files": files, "model_sha256": digest, "config": config})
        write_manifest(out_dir, scaled)
    return scaled
