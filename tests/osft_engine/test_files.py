"""Tensor files are complete or absent, and a disk that is too small is refused before the work."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from data_contracts.errors import CheckpointError, TrainingError
from osft_engine.files import full_disk_explained, read_tensors, require_free_space, save_tensors


def test_tensors_and_facts_are_read_back_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.safetensors"
    tensors = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor([True])}
    save_tensors(tensors, path, {"made": "today"})
    found, facts = read_tensors(path)
    assert facts == {"made": "today"}
    assert all(torch.equal(found[name], value) for name, value in tensors.items())
    assert [each.name for each in path.parent.iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize("content", [None, b"", b"nothing of the kind"])
def test_a_file_that_cannot_be_read_is_named(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.safetensors: cannot be read"):
        read_tensors(path)


def test_free_space_is_asked_of_the_disk_where_the_folder_will_be(tmp_path: Path) -> None:
    require_free_space(tmp_path / "not" / "yet", 1)
    with pytest.raises(TrainingError, match=r"needs about 1000000000\.00 GB of disk and \d+\.\d\d GB are free"):
        require_free_space(tmp_path / "not" / "yet", 10**18)


def test_a_full_disk_says_that_the_run_can_go_on(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"the disk is full .*it goes on where it stopped"), full_disk_explained(tmp_path):
        raise OSError(28, "No space left on device")
