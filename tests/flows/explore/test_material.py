"""Real tensors of a real model (nano): measured once, equal to what the engine measures, and bad folders are said to be."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from data_contracts.errors import CheckpointError
from flows.base_models.resolve import NANO
from flows.explore import material
from flows.explore.answer import Missing, attempt
from flows.explore.scene import Subject, require_model
from flows.explore.updates import GRADIENT, Source, rotated_by_protection
from flows.explore.views.constraint import constrain
from osft_engine.method.ranks import measure_importance
from osft_engine.subspace.protection import protect_activations, protect_weights

LAYER = "model.layers.1.self_attn.o_proj"


@pytest.fixture(scope="module")
def nano() -> material.Measurements:
    return material.measurements(material.open_model(Subject("nano", NANO), None))


def test_weight_and_spectrum(nano: material.Measurements) -> None:
    found = torch.from_numpy(nano.weight_energies(LAYER)).sqrt()
    assert torch.allclose(found, torch.linalg.svdvals(nano.weight(LAYER).double()), atol=1e-5)
    assert nano.importance() == measure_importance(nano.model.module, nano.model.targets, nano.model.batches)
    assert material.measurements(nano.model) is nano


def test_gradient_is_the_losses_slope(nano: material.Measurements) -> None:
    """A finite difference along the gradient itself."""
    from osft_engine.compute.forward import summed_loss

    gradient = nano.gradient(LAYER)
    weight = nano.model.targets[LAYER].weight
    assert not weight.requires_grad
    count = sum(len(batch.targets) for batch in nano.model.batches)

    def loss() -> float:
        with torch.no_grad():
            return sum(float(summed_loss(nano.model.module, batch)) for batch in nano.model.batches) / count

    step = 1e-2 / float(gradient.norm())
    before = weight.detach().clone()
    with torch.no_grad():
        weight.add_(step * gradient)
        high = loss()
        weight.copy_(before).sub_(step * gradient)
        low = loss()
        weight.copy_(before)
    assert (high - low) / (2 * step) == pytest.approx(float(gradient.square().sum()), rel=0.05)


def test_pages_that_measure_at_the_same_time_do_not_disturb_one_another(nano: material.Measurements) -> None:
    """Each page has a thread of its own, and they share the model: hooks of one would be called in the passes of another."""
    wanted = (nano.importance(), nano.gradient(LAYER), nano.moment(LAYER))

    def measure(number: int) -> bool:
        own = material.Measurements(nano.model)
        if number % 2:
            return own.importance() == wanted[0]
        return bool(torch.equal(own.gradient(LAYER), wanted[1]) and torch.equal(own.moment(LAYER), wanted[2]))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(measure, range(12)))


def test_leaks_are_the_engines(nano: material.Measurements) -> None:
    W, gradient = nano.weight(LAYER), nano.gradient(LAYER)
    rotated = rotated_by_protection(nano, Source(GRADIENT), LAYER)
    by_weight, by_inputs = protect_weights(W, 0.25), protect_activations((160, 160), nano.moment(LAYER), 0.25)
    assert constrain(rotated["weights"], "weights", 0.25).leak_before == pytest.approx(by_weight.leak(gradient), abs=1e-4)
    assert constrain(rotated["activations"], "activations", 0.25).leak_before == pytest.approx(by_inputs.leak(gradient), abs=1e-4)


def test_difference_of_two_models(nano: material.Measurements, tmp_path: Path) -> None:
    assert float(material.weight_difference(NANO, NANO, LAYER).norm()) == 0.0
    with pytest.raises(CheckpointError, match="no tensor"):
        material.weight_difference(NANO, NANO, "no.such.layer")
    with pytest.raises(CheckpointError, match="does not exist"):
        rotated_by_protection(nano, Source("gone", tmp_path / "a", tmp_path / "b"), LAYER)
    with pytest.raises(CheckpointError, match="not a layer"):
        nano.weight("lm_head")


def test_folders_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        require_model(Subject("x", tmp_path / "none"))
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        require_model(Subject("x", tmp_path))
    shutil.copyfile(NANO / "config.json", tmp_path / "config.json")
    with pytest.raises(CheckpointError, match="safetensors"):
        require_model(Subject("x", tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    assert isinstance(attempt(lambda: material.open_model(Subject("x", tmp_path), None)), Missing)
