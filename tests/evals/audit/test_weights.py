"""Weight drift and principal angles against torch, safetensors and angles that are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from data_contracts.errors import CheckpointError
from data_contracts.manifests import CheckpointManifest, file_ref, write_manifest
from evals.audit import weights
from evals.audit.weights import ANGLES_KEPT, measure_round_drift, measure_weight_drift, open_weights, principal_angles
from osft_engine.checkpoint.update import RoundUpdate, save_update
from osft_engine.subspace.protection import LayerUpdate


def _model(folder: Path, **tensors: torch.Tensor) -> Path:
    folder.mkdir()
    save_file({name.replace("__", "."): tensor for name, tensor in tensors.items()}, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_every_type_is_read_as_torch_reads_it(tmp_path: Path, dtype: torch.dtype) -> None:
    weight = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    model = _model(tmp_path / "m", a__weight=weight, b__weight=torch.ones(3))
    assert np.array_equal(open_weights(model)["a.weight"].read("a.weight"), weight.double().numpy())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_tensor_larger_than_a_block_is_compared_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    monkeypatch.setattr(weights, "BLOCK", 8)
    first, second = (torch.randn(5, 7, generator=torch.Generator().manual_seed(seed)).to(dtype) for seed in (0, 1))
    [drift] = measure_weight_drift(_model(tmp_path / "before", q__weight=first), _model(tmp_path / "after", q__weight=second))
    expected = np.linalg.norm((second.double() - first.double()).numpy()) / np.linalg.norm(first.double().numpy())
    assert drift.relative_change == pytest.approx(expected, rel=1e-12)


def test_relative_change_is_the_frobenius_ratio(tmp_path: Path) -> None:
    weight = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    before = _model(tmp_path / "before", q__weight=weight, norm__weight=torch.ones(4), k__weight=weight.clone())
    after = _model(tmp_path / "after", q__weight=weight * 1.03, norm__weight=torch.ones(4), k__weight=weight.clone())
    drift = {each.layer: each.relative_change for each in measure_weight_drift(before, after)}
    assert drift == {"q": pytest.approx(0.03, rel=1e-5), "k": 0.0}


def test_vectors_are_read_where_they_are_asked_for_and_a_bias_that_was_zero_has_moved(tmp_path: Path) -> None:
    weight = torch.eye(3)
    before = _model(tmp_path / "before", q__weight=weight, q__bias=torch.zeros(3), norm__weight=torch.ones(4))
    after = _model(tmp_path / "after", q__weight=weight, q__bias=torch.full((3,), 0.5), norm__weight=torch.full((4,), 1.1))
    assert [each.layer for each in measure_weight_drift(before, after)] == ["q"]
    drift = {each.layer: each.relative_change for each in measure_weight_drift(before, after, vectors=True)}
    assert drift == {"q": 0.0, "q.bias": 1.0, "norm": pytest.approx(0.1, rel=1e-6)}


@pytest.mark.parametrize("angle", [0.0, 1e-7, 0.3, 1.2, np.pi / 2])
def test_known_angles(angle: float) -> None:
    first = np.eye(5)[:, :2]
    second = np.array([[1, 0, 0, 0, 0], [0, np.cos(angle), np.sin(angle), 0, 0]]).T
    largest, smallest = principal_angles(first, second)
    assert largest == pytest.approx(angle, rel=1e-6, abs=1e-12)
    assert smallest == pytest.approx(0.0, abs=1e-12)


def _basis(columns: int, seed: int) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(16, columns, generator=torch.Generator().manual_seed(seed)))[0].contiguous()


def _update(path: Path, **rights: torch.Tensor) -> Path:
    """As the engine writes it: layers with one right side store it once."""
    save_update(RoundUpdate({name: LayerUpdate(torch.ones(16, right.shape[1]), right) for name, right in rights.items()}), path)
    return path


def _protected(free: torch.Tensor) -> np.ndarray:
    """An orthonormal basis (16 x 12) of what is left of 16 dimensions without the free ones, from numpy's complete QR."""
    return np.linalg.qr(free.double().numpy(), mode="complete")[0][:, free.shape[1] :]


def test_the_angles_are_those_between_the_protected_directions(tmp_path: Path) -> None:
    weight, old, new = torch.randn(16, 16), _basis(4, 1), _basis(4, 2)
    model = _model(tmp_path / "m", q__weight=weight, k__weight=weight.clone(), o__weight=weight.clone())
    before = _update(tmp_path / "before.safetensors", q=old, k=old, o=_basis(3, 3))
    after = _update(tmp_path / "after.safetensors", q=new, k=new, o=_basis(4, 3))
    angles = {each.layer: each.principal_angles for each in measure_weight_drift(model, model, (before, after))}
    expected = np.sort(np.arccos(np.clip(np.linalg.svd(_protected(old).T @ _protected(new), compute_uv=False), 0, 1)))[::-1]
    assert angles["q"] == pytest.approx(expected[:4], abs=1e-6)
    assert angles["k"] == angles["q"]
    assert angles["o"] == ()


@pytest.mark.parametrize(("known", "measured"), [(0, True), (13, True), (12, False), (4, False)])
def test_directions_that_no_round_knew_have_no_angle(tmp_path: Path, known: int, measured: bool) -> None:
    """Of 16 directions 4 are free. With the energies of 12 kept, the 4 others are alike and rounding orders them."""
    model = _model(tmp_path / "m", q__weight=torch.randn(16, 16))
    updates = tuple(_update(tmp_path / f"{seed}.safetensors", q=_basis(4, seed)) for seed in (1, 2))
    [drift] = measure_weight_drift(model, model, (updates[0], updates[1]), known=known)
    assert bool(drift.principal_angles) == measured


def _checkpoint(folder: Path, weight: torch.Tensor, *, protect: str | None) -> Path:
    folder.mkdir()
    _model(folder / "model", q__weight=weight)
    files = {"update": file_ref(folder, _update(folder / "update.safetensors", q=_basis(12, 0)))} if protect else {}
    method = "osft" if protect else "base"
    write_manifest(folder, CheckpointManifest(method=method, protect=protect, model_sha256="0" * 64, files=files))
    return folder


def test_drift_of_a_round_from_its_checkpoints(tmp_path: Path) -> None:
    base = _checkpoint(tmp_path / "base", torch.eye(16), protect=None)
    first = _checkpoint(tmp_path / "first", torch.eye(16) * 1.1, protect="activations")
    second = _checkpoint(tmp_path / "second", torch.eye(16) * 1.1, protect="activations")
    third = _checkpoint(tmp_path / "third", torch.eye(16) * 1.1, protect="weights")
    [drift] = measure_round_drift(base, first)
    assert drift.relative_change == pytest.approx(0.1, rel=1e-5)
    assert drift.principal_angles == ()
    [drift] = measure_round_drift(first, second)
    assert drift.relative_change == 0.0
    assert drift.principal_angles == pytest.approx((0.0,) * ANGLES_KEPT, abs=1e-6)
    [drift] = measure_round_drift(second, third)  # its right sides are no directions that inputs left free
    assert drift.principal_angles == ()


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    small, large = _model(tmp_path / "s", q__weight=torch.ones(2, 2)), _model(tmp_path / "l", q__weight=torch.ones(3, 2))
    with pytest.raises(CheckpointError, match="compare checkpoints of one architecture"):
        measure_weight_drift(small, large)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "model.safetensors").write_bytes(b"\xff" * 40)
    with pytest.raises(CheckpointError, match="not a complete safetensors file"):
        measure_weight_drift(small, tmp_path / "bad")
    (tmp_path / "none").mkdir()
    with pytest.raises(CheckpointError, match="has no"):
        measure_weight_drift(small, tmp_path / "none")
