"""Content digests. One rule everywhere: sha256, lower-case hex, of the exact bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_contracts.errors import CheckpointError

_BLOCK = 1 << 20

# What decides the behaviour of a model folder. Everything else in it (README, training state) may change freely.
MODEL_FILE_PATTERNS = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "chat_template.*",
    "*.model",  # sentencepiece
    "*.tiktoken",
    "*.py",  # a model's own code, run where train.trust_remote_code allows it
    "additional_chat_templates/*.jinja",
)


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, read in blocks (constant memory)."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def text_digest(text: str) -> str:
    """sha256 of a string's UTF-8 bytes."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def canonical_json(value: Any) -> str:
    """One spelling per value: sorted keys, no spaces, no NaN. The text that `value_digest` hashes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def value_digest(value: Any) -> str:
    """sha256 of a JSON value's canonical spelling."""
    return text_digest(canonical_json(value))


def model_files(folder: Path) -> dict[str, str]:
    """{relative name: sha256} of the files that decide what the model in `folder` computes.

    Raises CheckpointError where the folder has no config.json or no safetensors weights (pickled weights are refused).
    """
    if not (folder / "config.json").is_file():
        raise CheckpointError(str(folder), "is not a model folder: no config.json", "give a folder that from_pretrained can load")
    found = {
        path.relative_to(folder).as_posix(): path for pattern in MODEL_FILE_PATTERNS for path in folder.glob(pattern) if path.is_file()
    }
    if not any(name.endswith(".safetensors") for name in found):
        raise CheckpointError(
            str(folder), "has no *.safetensors weights", "convert the model to safetensors; pickled weights are never loaded"
        )
    return {name: file_digest(path) for name, path in sorted(found.items())}


def model_digest(files: Mapping[str, str]) -> str:
    """One digest for a model folder, from `model_files`."""
    return value_digest(dict(files))
