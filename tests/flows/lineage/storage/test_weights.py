"""Weights that were deleted come back from the parent's and the stored update, for every kind of change that the engine stores."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from data_contracts.errors import CheckpointError
from data_contracts.model.header import read_header
from flows.lineage.storage import weights
from flows.lineage.storage.weights import largest_difference, write_weights
from osft_engine.checkpoint.update import RoundUpdate, save_update
from osft_engine.subspace.protection import LayerUpdate


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_factors_dense_updates_transposed_weights_and_other_parameters_come_back_byte_for_byte(tmp_path: Path, dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(3)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw)

    shared = random(6, 2)
    changes = {
        "thin": LayerUpdate(random(4, 2), shared),
        "beside": LayerUpdate(random(5, 2), shared),
        "whole": LayerUpdate(random(4, 6), None),
        "conv": LayerUpdate(random(6, 2), random(6, 2)),  # square, so that only the stored fact tells how it lies
    }
    shapes = {"thin": (4, 6), "beside": (5, 6), "whole": (4, 6), "conv": (6, 6)}
    parent = {f"{name}.weight": random(*shape).to(dtype) for name, shape in shapes.items()}
    parent |= {"norm.weight": random(6).to(dtype), "untouched.weight": random(3, 3).to(dtype)}
    norm = random(6).to(dtype)
    trained = dict(parent) | {"norm.weight": norm}
    for name, change in changes.items():
        dense = change.dense().T if name == "conv" else change.dense()
        trained[f"{name}.weight"] = (parent[f"{name}.weight"].float() + dense).to(dtype).contiguous()
    for folder, tensors in (("parent", parent), ("trained", trained)):
        (tmp_path / folder).mkdir()
        save_file(tensors, tmp_path / folder / "model.safetensors")
    save_update(RoundUpdate(changes, {"norm.weight": norm}, ("conv",)), tmp_path / "update.safetensors")

    original, again = tmp_path / "trained" / "model.safetensors", tmp_path / "again.safetensors"
    write_weights(read_header(original).text, tmp_path / "parent", tmp_path / "update.safetensors", again)
    assert again.read_bytes() == original.read_bytes()
    assert not torch.equal(load_file(again)["conv.weight"], parent["conv.weight"])


def test_an_update_of_experts_is_not_taken_for_no_update(tmp_path: Path) -> None:
    """Files name and cut experts otherwise than the model in memory: without this, the parent's weights would come back unchanged."""
    (tmp_path / "parent").mkdir()
    save_file({"layers.0.experts.0.w2.weight": torch.zeros(2, 2)}, tmp_path / "parent" / "model.safetensors")
    update = RoundUpdate({"layers.0.experts.0.down_proj": LayerUpdate(torch.ones(2, 2), None)}, experts={"layers.0.experts": 4})
    save_update(update, tmp_path / "update.safetensors")
    header = read_header(tmp_path / "parent" / "model.safetensors").text
    with pytest.raises(CheckpointError, match=r"changes experts, .*the weights of this version stay on disk"):
        write_weights(header, tmp_path / "parent", tmp_path / "update.safetensors", tmp_path / "again.safetensors")


@pytest.mark.parametrize("block", [4, 1 << 24])
def test_the_largest_difference_is_that_of_all_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(weights, "_BLOCK", block)
    one = torch.linspace(-2.0, 1.0, 15).reshape(3, 5)
    other = one.clone()
    other[2, 4] += 0.25  # in the last block, which is not a whole one
    for name, tensor in (("one", one), ("other", other)):
        (tmp_path / name).mkdir()
        save_file({"w": tensor, "same": torch.arange(3)}, tmp_path / name / "model.safetensors")
    found = largest_difference(tmp_path / "one" / "model.safetensors", tmp_path / "other" / "model.safetensors")
    assert found == pytest.approx(0.25 / (torch.finfo(torch.float32).eps * 2.0), rel=1e-6)
