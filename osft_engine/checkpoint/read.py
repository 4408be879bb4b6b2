"""Model folders in and out: loading with one-line errors, and writing a candidate so that a partial one is never taken for complete."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_contracts.devices import choose_device
from data_contracts.digests import MODEL_FILE_PATTERNS, model_digest, model_files
from data_contracts.errors import ConfigError
from data_contracts.manifests import CheckpointManifest, FileRef, file_ref, write_manifest
from data_contracts.model.folder import load_strictly, not_loaded, passed_over, read_model_config, require_model_folder
from osft_engine.config import TrainConfig
from osft_engine.data.model_text import write_text_settings
from osft_engine.files import full_disk_explained

# What save_pretrained writes by itself; everything else of a model folder is copied byte for byte from the base.
_WRITTEN_BY_MODEL = {"config.json", "generation_config.json"}

_FICLONE = 0x40049409  # linux/fs.h


def pick_device(config: TrainConfig) -> torch.device:
    """By the rule that evaluation follows too. Raises ConfigError for a name that torch does not know."""
    try:
        return torch.device(choose_device(config.device, torch.cuda.is_available).device)
    except RuntimeError as error:
        raise ConfigError("train.device", f"{config.device!r} is no torch device", "auto, cpu, cuda or cuda:0") from error


def pick_dtype(config: TrainConfig, device: torch.device) -> torch.dtype:
    if config.dtype == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    return torch.float32 if config.dtype == "float32" else torch.bfloat16


def load_model(folder: Path, config: TrainConfig) -> Any:
    """The model of a folder, on its device in its dtype. Raises CheckpointError where the folder is not one complete model."""
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    from osft_engine.checkpoint.quantization import quantization_settings, require_whole_blocks

    device = pick_device(config)
    dtype = pick_dtype(config, device)
    quantization = quantization_settings(config, dtype)
    disable_progress_bar()  # the training bar is the only one
    model = load_strictly(
        AutoModelForCausalLM,
        folder,
        trust_remote_code=config.trust_remote_code,
        dtype=dtype,
        quantization_config=quantization,
        device_map=None if quantization is None else {"": device},
    )
    _keep_weights_as_they_are(model)
    if left := passed_over(model, require_model_folder(folder)):
        what = f"{len(left)} weights of {folder.name}, such as {left[0]}, are not read by transformers and will not be in the checkpoint"
        print(f"warning: {what}", file=sys.stderr)
    if quantization is None:
        return model.to(device)
    require_whole_blocks(model)
    return model


def _keep_weights_as_they_are(model: Any, rescale_every: int = 0) -> None:
    """RWKV halves its own weights every few layers whenever it reads in eval mode, against overflow in half precision, and doubles them
    again in training: what an update is added to, and what is saved, would depend on the mode that was last used."""
    if hasattr(model.config, "rescale_every"):
        model.config.rescale_every = rescale_every


def load_tokenizer(folder: Path, config: TrainConfig) -> Any:
    from transformers import AutoTokenizer

    trusted = config.trust_remote_code
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=trusted)
    except Exception as error:  # tokenizers and a model's own code raise many types
        way_out = "put the tokenizer files beside the weights"
        raise not_loaded(folder, error, "has no usable tokenizer", way_out, trusted=trusted) from error


def write_model(model: Any, base: Path, folder: Path, config: TrainConfig, state: Mapping[str, Tensor] | None = None) -> None:
    """Write a dense model folder in one move: weights and config from the model, tokenizer and templates from the base.

    `state` replaces the model's own weights, where the model is still in training or sharded. The config's chat template and its variables
    replace the base's, so that the candidate is prompted with the text that it learned.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    _keep_weights_as_they_are(model, read_model_config(base).get("rescale_every", 0))  # in the config that is written
    model.save_pretrained(partial, **({} if state is None else {"state_dict": dict(state)}))
    _keep_weights_as_they_are(model)
    for source in _carried_files(base):
        target = partial / source.relative_to(base)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(source, target)
    write_text_settings(partial, load_tokenizer(base, config), config)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)


def _carried_files(base: Path) -> list[Path]:
    found = sorted({path for pattern in MODEL_FILE_PATTERNS for path in base.glob(pattern) if path.is_file()})
    return [path for path in found if path.name not in _WRITTEN_BY_MODEL and ".safetensors" not in path.name]


def model_file_refs(out_dir: Path) -> tuple[dict[str, FileRef], str]:
    """References for out_dir/model by role, and the digest of the model."""
    digests = model_files(out_dir / "model")
    refs = {
        f"model/{name}": FileRef(path=f"model/{name}", sha256=digest, bytes=(out_dir / "model" / name).stat().st_size)
        for name, digest in digests.items()
    }
    return refs, model_digest(digests)


def other_file_refs(out_dir: Path, roles: Mapping[str, str]) -> dict[str, FileRef]:
    """References for the files that exist among {role: name}."""
    return {role: file_ref(out_dir, out_dir / name) for role, name in roles.items() if (out_dir / name).is_file()}


def running_versions() -> dict[str, str]:
    """Of the packages that decide the numbers."""
    found: dict[str, str] = {}
    for name in ("skillstack", "torch", "transformers", "peft", "safetensors"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def describe_base(model_dir: Path, out_dir: Path) -> CheckpointManifest:
    """Round 0: make `out_dir` the checkpoint of a plain model folder, its files copied (sharing blocks where the file system can):
    what is edited in the folder afterwards does not reach the checkpoint."""
    names = model_files(model_dir)
    target = out_dir / "model"
    with full_disk_explained(out_dir):
        target.mkdir(parents=True, exist_ok=True)
        for name in names:
            (target / name).parent.mkdir(exist_ok=True)
            _copy((model_dir / name).resolve(), target / name)
        refs, digest = model_file_refs(out_dir)
        manifest = CheckpointManifest(files=refs, method="base", model_sha256=digest, versions=running_versions())
        write_manifest(out_dir, manifest)
    return manifest


def _copy(source: Path, target: Path) -> None:
    """A copy with bytes of its own; btrfs, XFS and APFS-like file systems store them once until one of the two changes."""
    target.unlink(missing_ok=True)
    try:
        with source.open("rb") as reading, target.open("wb") as writing:
            fcntl.ioctl(writing.fileno(), _FICLONE, reading.fileno())
    except OSError:  # another file system, or one that cannot share
        shutil.copyfile(source, target)
