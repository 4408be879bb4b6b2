"""An update on disk: what was saved is read back, with its transposed layers and the parameters outside the targets."""

from __future__ import annotations

from pathlib import Path

import torch

from osft_engine.checkpoint.update import RoundUpdate, load_update, read_update, save_update
from osft_engine.subspace.protection import LayerUpdate


def test_every_form_of_update_is_read_back(tmp_path: Path) -> None:
    layers = {"thin": LayerUpdate(torch.randn(4, 2), torch.randn(3, 2)), "dense": LayerUpdate(torch.randn(4, 3), None)}
    others = {"norm.weight": torch.randn(5)}
    save_update(RoundUpdate(layers, others, ("dense",)), tmp_path / "update.safetensors")
    found = read_update(tmp_path / "update.safetensors")
    assert found.transposed == ("dense",)
    assert found.layers.keys() == layers.keys()
    for name, update in layers.items():
        torch.testing.assert_close(found.layers[name].dense(), update.dense())
        assert (found.layers[name].right is None) is (update.right is None)
    torch.testing.assert_close(dict(found.others), others)
    assert load_update(tmp_path / "update.safetensors").keys() == layers.keys()
