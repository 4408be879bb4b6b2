"""One digest per content: of files, JSON values, and of exactly those files of a model folder that decide what it computes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from data_contracts.digests import canonical_json, file_digest, model_digest, model_files, text_digest, value_digest
from data_contracts.errors import CheckpointError


def test_a_file_of_several_blocks_has_the_digest_of_its_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "file").write_bytes(content)
    assert file_digest(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_a_value_has_one_spelling_and_nan_has_none() -> None:
    assert canonical_json({"b": [1, 2.5], "a": "é"}) == '{"a":"é","b":[1,2.5]}'
    assert value_digest({"b": 1, "a": 2}) == value_digest({"a": 2, "b": 1}) != value_digest({"a": "2", "b": 1})
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))


def test_text_of_a_broken_pair_has_a_digest_too() -> None:
    assert text_digest("\ud83d") != text_digest("\ud83e")
    assert text_digest("é") == hashlib.sha256("é".encode()).hexdigest()


DECIDING = [
    "added_tokens.json", "additional_chat_templates/tools.jinja", "bpe.tiktoken", "chat_template.jinja", "config.json",
    "generation_config.json", "merges.txt", "model.safetensors", "own_code.py", "special_tokens_map.json", "spm.model", "tokenizer.json",
    "tokenizer_config.json", "vocab.json",
]  # fmt: skip


def _model(folder: Path) -> Path:
    (folder / "additional_chat_templates").mkdir(parents=True)
    for name in (*DECIDING, "README.md", "optimizer.pt", "training_args.bin"):
        (folder / name).write_text(name)
    return folder


def test_what_decides_the_model_counts_and_the_rest_does_not(tmp_path: Path) -> None:
    folder = _model(tmp_path / "model")
    files = model_files(folder)
    assert list(files) == DECIDING
    (folder / "README.md").write_text("changed")
    assert model_digest(model_files(folder)) == model_digest(files)
    for name in DECIDING:
        (folder / name).write_text("changed")
        assert model_digest(model_files(folder)) != model_digest(files)
        (folder / name).write_text(name)


@pytest.mark.parametrize(("gone", "what"), [("config.json", "no config.json"), ("model.safetensors", "no \\*.safetensors weights")])
def test_a_folder_that_is_no_model_is_refused(gone: str, what: str, tmp_path: Path) -> None:
    folder = _model(tmp_path / "model")
    (folder / gone).unlink()
    with pytest.raises(CheckpointError, match=what):
        model_files(folder)
