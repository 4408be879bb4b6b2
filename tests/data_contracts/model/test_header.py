"""The header of a safetensors file is what the library says of it; a file that is none, or was cut, is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from data_contracts.errors import CheckpointError
from data_contracts.model.header import parse_header, read_header


@pytest.fixture
def file(tmp_path: Path) -> Path:
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.bfloat16), "ü": torch.zeros(0, 7)}
    save_file(tensors, tmp_path / "x.safetensors", metadata={"written": "by the tëst"})
    return tmp_path / "x.safetensors"


def test_names_shapes_types_and_places_are_those_of_the_library(file: Path) -> None:
    header = read_header(file)
    with safe_open(file, framework="pt") as theirs:
        assert {name: list(tensor.shape) for name, tensor in header.tensors.items()} == {
            name: theirs.get_slice(name).get_shape()
            for name in theirs.keys()  # noqa: SIM118
        }
        assert {name: tensor.dtype for name, tensor in header.tensors.items()} == {"a": "F32", "b": "BF16", "ü": "F32"}
        assert header.metadata == theirs.metadata()
    place = header.tensors["a"]
    raw = file.read_bytes()[header.data_begin + place.begin : header.data_begin + place.end]
    assert torch.frombuffer(bytearray(raw), dtype=torch.float32).tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert parse_header(header.text) == header


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[:-1], lambda raw: raw + b"x", lambda raw: raw[:20], lambda raw: b"", lambda raw: b"\xff" * 40]
)
def test_what_is_not_a_whole_file_is_refused_by_name(damage, file: Path) -> None:
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(CheckpointError, match=r"x\.safetensors.*\(restore it\)$"):
        read_header(file, "restore it")
