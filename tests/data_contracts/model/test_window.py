"""The window is read from what transformers itself writes, and is what the model can read and no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_contracts.errors import CheckpointError
from data_contracts.model.window import model_window, read_window, shortest


def _saved(kind: str, folder: Path, **fields: Any) -> Path:
    import transformers

    getattr(transformers, kind)(**fields).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("kind", "fields", "window"),
    [
        ("GPT2Config", {"n_positions": 64}, 64),
        ("GPTNeoXConfig", {"max_position_embeddings": 96}, 96),
        ("LlamaConfig", {"max_position_embeddings": 128}, 128),
        ("MistralConfig", {"max_position_embeddings": 256, "sliding_window": 16}, 256),
        ("MptConfig", {"max_seq_len": 48}, 48),
        ("MambaConfig", {}, None),
        ("BloomConfig", {"seq_length": 32}, None),
        ("RwkvConfig", {"context_length": 32}, None),
    ],
)
def test_the_window_of_each_kind_of_configuration(kind: str, fields: dict[str, Any], window: int | None, tmp_path: Path) -> None:
    assert read_window(_saved(kind, tmp_path / kind, **fields)) == window


def test_the_window_of_a_language_model_inside_another(tmp_path: Path) -> None:
    assert model_window({"vision_config": {"max_position_embeddings": 5}, "text_config": {"max_position_embeddings": 77}}) == 77


def test_a_learned_position_past_the_window_does_not_exist(tmp_path: Path) -> None:
    """Independent of the reader: the model itself fails one token past the number, and not at it."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(n_positions=24, n_embd=8, n_layer=1, n_head=1, vocab_size=16)
    config.save_pretrained(tmp_path)
    window = read_window(tmp_path)
    model = GPT2LMHeadModel(config).eval()
    model(torch.ones(1, window, dtype=torch.long))
    with pytest.raises(IndexError):
        model(torch.ones(1, window + 1, dtype=torch.long))


def test_a_folder_without_a_readable_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_window(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_window(tmp_path)


def test_the_shortest_limit_counts() -> None:
    assert shortest(None, 7, 5) == 5
    assert shortest(None) is None
