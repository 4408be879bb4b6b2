"""View 2: the mask in the rotated frame is the engine's constraint, and its leak the engine's leak."""

from __future__ import annotations

import pytest
import torch

from flows.explore.views.constraint import binned, comparison_rows, constrain, constraint_figure, input_frame, rotate, weight_frame
from osft_engine.config import Protect
from osft_engine.subspace.protection import AllowedUpdate, protect_activations, protect_weights, protect_weights_block

GENERATOR = torch.Generator().manual_seed(3)


def _allowed(W: torch.Tensor, moment: torch.Tensor, protect: Protect, ratio: float) -> AllowedUpdate:
    if protect == "activations":
        return protect_activations((W.shape[0], W.shape[1]), moment, ratio)
    return protect_weights(W, ratio) if protect == "weights" else protect_weights_block(W, ratio)


@pytest.mark.parametrize("shape", [(12, 20), (20, 12), (16, 16)])
@pytest.mark.parametrize("protect", ["activations", "weights", "weights_block"])
@pytest.mark.parametrize("ratio", [0.25, 0.6, 1.0])
def test_same_as_the_engine(shape: tuple[int, int], protect: Protect, ratio: float) -> None:
    W, dW = (torch.randn(shape, generator=GENERATOR) for _ in range(2))
    X = torch.randn(300, shape[1], generator=GENERATOR) * torch.linspace(2, 0.1, shape[1])
    moment = X.T @ X / 300
    frame = input_frame(W, moment) if protect == "activations" else weight_frame(W)
    result = constrain(rotate(dW, frame), protect, ratio)
    allowed = _allowed(W, moment, protect, ratio)
    assert (result.protected, result.trainable) == (allowed.protected, allowed.trainable)
    assert result.leak_before == pytest.approx(allowed.leak(dW), abs=1e-5)
    after = frame[0] @ result.after @ frame[1].T  # back among the weights
    assert allowed.leak(after) < 1e-5
    assert result.leak_after < 1e-12
    assert "e-" not in comparison_rows([result])[0]["leak after"] + result.sentence()
    # Nothing allowed was taken away: constraining again changes nothing, and what was taken is orthogonal to what was left.
    assert torch.equal(constrain(result.after, protect, ratio).after, result.after)
    assert float((result.after * (result.before - result.after)).sum()) == 0.0


def test_bins_keep_the_energy_and_the_cut() -> None:
    A = torch.randn(30, 70, dtype=torch.float64, generator=GENERATOR)
    values, rows, columns = binned(A, 21, rows_too=True)
    assert 21 in rows
    assert 21 in columns
    areas = torch.tensor(rows).diff()[:, None] * torch.tensor(columns).diff()[None, :]
    assert float((values.square() * areas).sum()) == pytest.approx(float(A.square().sum()))


def test_figure_and_table_of_a_zero_update() -> None:
    results = [constrain(torch.zeros(10, 14, dtype=torch.float64), protect, 0.3) for protect in ("activations", "weights", "weights_block")]
    assert [row["leak before"] for row in comparison_rows(results)] == ["0.0000"] * 3
    for result in results:
        assert len(constraint_figure(result).data) == 2
