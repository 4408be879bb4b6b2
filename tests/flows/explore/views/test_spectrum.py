"""View 1: the cut is the engine's cut, and the policies choose what the engine would choose."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from flows.explore.views.spectrum import choice_rows, cut_energies, input_energies, policy_choices, spectrum_figure, weight_energies
from osft_engine.config import TrainConfig
from osft_engine.memory.moments import LayerMoments
from osft_engine.memory.subspace_memory import SubspaceMemory
from osft_engine.method.ranks import layer_ratios
from osft_engine.subspace.protection import protect_activations, protect_weights

W = torch.randn(24, 40, generator=torch.Generator().manual_seed(1))
X = torch.randn(200, 40, generator=torch.Generator().manual_seed(2)) * torch.linspace(3, 0.01, 40)
MOMENT = X.T @ X / len(X)
ENERGIES = weight_energies(W)


def test_energies_are_squared_singular_values_and_eigenvalues() -> None:
    for matrix in (W, W.T):
        np.testing.assert_allclose(weight_energies(matrix), np.linalg.svd(matrix.numpy().astype(float), compute_uv=False) ** 2, rtol=1e-9)
    np.testing.assert_allclose(input_energies(MOMENT), np.linalg.svd(MOMENT.numpy().astype(float), compute_uv=False), atol=1e-6)
    assert weight_energies(np.ones((3, 5)))[1:] == pytest.approx(0.0, abs=1e-12)  # rank one; rounding makes none negative
    assert (weight_energies(np.ones((3, 5))) >= 0).all()


@pytest.mark.parametrize("ratio", [0.01, 0.25, 0.5, 1.0])
def test_cut_is_the_engines(ratio: float) -> None:
    cut = cut_energies(ENERGIES, ratio)
    allowed = protect_weights(W, ratio)
    assert (cut.protected, cut.trainable) == (allowed.protected, allowed.trainable)
    assert cut.energy_kept == pytest.approx(float(torch.linalg.svdvals(W)[: cut.protected].square().sum() / W.square().sum()), abs=1e-5)
    by_inputs = cut_energies(input_energies(MOMENT), ratio)
    assert by_inputs.protected == protect_activations((24, 40), MOMENT, ratio).protected


def test_policies_choose_what_the_engine_would() -> None:
    targets: dict[str, nn.Module] = {"a": nn.Linear(40, 24), "b": nn.Linear(40, 24)}
    importance = {"a": 0.2, "b": 0.6}
    leaders = {"a": "a", "b": "a"}
    ledger = SubspaceMemory().add("base", LayerMoments({"a": MOMENT}, leaders, 200), 64)
    choices = {
        each.policy: each.cut for each in policy_choices(input_energies(MOMENT), TrainConfig(energy_share=0.9), "a", importance, MOMENT)
    }
    for policy in ("uniform", "importance", "energy"):
        config = TrainConfig(rank_policy=policy, energy_share=0.9)
        ratio = layer_ratios(targets, config, ledger, importance)["a"]
        cut = choices[policy]
        assert cut is not None
        assert cut.protected == protect_activations((24, 40), MOMENT, ratio).protected
    energy = choices["energy"]
    assert energy is not None
    assert energy.energy_kept >= 0.9


def test_policies_that_do_not_apply_say_why() -> None:
    choices = policy_choices(ENERGIES, TrainConfig(), "a", None, None)
    assert [choice.cut is None for choice in choices] == [False, True, True]
    assert all(choice.why for choice in choices)
    assert choice_rows(choices)[2]["ratio"] == "—"


def test_figure_shows_every_direction_once() -> None:
    cut = cut_energies(ENERGIES, 0.25)
    figure = spectrum_figure(ENERGIES, cut, policy_choices(ENERGIES, TrainConfig(), "a", {"a": 0.5}, None), inputs=False)
    assert [len(trace.x) for trace in figure.data] == [18, 6]
    assert figure.data[0].y[0] == pytest.approx(float(torch.linalg.svdvals(W)[0]), rel=1e-5)


def test_a_spectrum_of_zeros_has_a_figure() -> None:
    zeros = np.zeros(8)
    cut = cut_energies(zeros, 0.5)
    assert cut.energy_kept == 0.0
    spectrum_figure(zeros, cut, (), inputs=True)
