"""The longest sequence that a model can read, from its config.json alone: what training, validation and evaluation cut and count by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_contracts.errors import CheckpointError

# Names of one thing in the configurations of transformers. `sliding_window` is none of them: it says how far a token looks back, not how
# long a text may be; nor is `seq_length`, what a model without positions of its own (Bloom) happened to be trained on.
_NAMES = ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx")
# The language model inside a configuration of several models.
_INNER = ("text_config", "llm_config", "language_config")


def model_window(config: Mapping[str, Any]) -> int | None:
    """Tokens that a model of this config.json can read at once; None where it names no limit (Mamba, RWKV, Bloom)."""
    for name in _NAMES:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    inner = next((config[name] for name in _INNER if isinstance(config.get(name), Mapping)), None)
    return None if inner is None else model_window(inner)


def read_window(model_dir: Path) -> int | None:
    """The window of the model in a folder. Raises CheckpointError where its config.json cannot be read."""
    path = model_dir / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(str(path), f"cannot be read: {error}", "give a folder that from_pretrained can load") from error
    return model_window(config) if isinstance(config, dict) else None


def shortest(*limits: int | None) -> int | None:
    """The smallest of several limits in tokens, of which some may be absent."""
    given = [limit for limit in limits if limit is not None]
    return min(given, default=None)
