"""`base_model` of the config (an included model, a folder, or a Hugging Face id) as a folder of safetensors."""

from __future__ import annotations

from pathlib import Path

from data_contracts.errors import CheckpointError
from data_contracts.model.folder import require_model_folder

NANO = Path(__file__).parent / "nano"
INCLUDED = ("nano", "smollm2")


def resolve_base_model(name: str, cache: Path) -> Path:
    """The folder of a base model, downloaded or converted into `cache` if needed.

    Raises CheckpointError if there is no such model, or if it has no safetensors weights.
    """
    if name == "nano":
        return NANO
    if name == "smollm2":
        from flows.base_models.smollm2 import prepare_smollm2

        return prepare_smollm2(cache)
    folder = Path(name)
    if folder.is_dir():
        require_model_folder(folder)
        return folder
    if folder.is_absolute() or name.startswith(".") or name.count("/") != 1:
        raise CheckpointError(
            name, "base model folder does not exist", "set base_model to a model folder, a Hugging Face id, nano or smollm2"
        )
    return _download(name, cache)


def public_name(name: str) -> str:
    """The name that `base_model` has for others: the name of an included model, an id of the hub, or a folder's absolute path."""
    return str(Path(name).resolve()) if name not in INCLUDED and Path(name).is_dir() else name


def find_base_model(name: str, cache: Path) -> Path | None:
    """The folder if it is on this machine already; None if it would have to be downloaded or converted."""
    if name == "nano":
        return NANO
    if name == "smollm2":
        from flows.base_models.smollm2 import FOLDER_NAME

        folder = cache / FOLDER_NAME
        return folder if (folder / "config.json").is_file() else None
    if Path(name).is_dir() or Path(name).is_absolute() or name.count("/") != 1:
        return resolve_base_model(name, cache)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, cache_dir=cache, local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def _download(name: str, cache: Path) -> Path:
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(name, cache_dir=cache, ignore_patterns=["*.bin", "*.pt", "*.pth", "*.gguf", "*.onnx"]))
    except Exception as error:  # the hub raises many types of errors: not found, gated, offline, network
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            name, f"is not a local folder and cannot be downloaded from the Hugging Face hub: {reason}", "check the id or the network"
        ) from error
    require_model_folder(folder)
    return folder
