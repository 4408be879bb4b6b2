"""What each protection leaves alone, and what it lets change."""

from __future__ import annotations

import pytest
import torch

from osft_engine.subspace.protection import protect_activations, protect_weights, protect_weights_block

SHAPES = [(24, 24), (16, 40), (40, 16)]


def _matrix(m: int, n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_weights_leaves_leading_directions_of_both_sides_alone(shape: tuple[int, int], compact: bool) -> None:
    W = _matrix(*shape)
    allowed = protect_weights(W, 0.25, compact=compact)
    q = min(shape)
    k = q - round(0.25 * q)
    dW = allowed.expand(_matrix(*allowed.core_shape).float()).double()
    U, _, Vt = torch.linalg.svd(W)
    assert float((U[:, :k].T @ dW).norm() / dW.norm()) < 1e-6
    assert float((dW @ Vt[:k].T).norm() / dW.norm()) < 1e-6
    assert torch.linalg.matrix_rank(dW, rtol=1e-5) == min(allowed.core_shape) == q - k
    X = _matrix(*shape, seed=2)
    anything = X - U[:, :k] @ (U[:, :k].T @ X)  # whatever keeps both conditions
    anything = anything - (anything @ Vt[:k].T) @ Vt[:k]
    reachable = allowed.leak(anything) < 1e-6
    assert reachable != (compact and shape[0] != shape[1])  # compact gives up what a non-square weight does not use


@pytest.mark.parametrize("shape", SHAPES)
def test_weights_block_leaves_only_the_leading_block_alone(shape: tuple[int, int]) -> None:
    W = _matrix(*shape)
    allowed = protect_weights_block(W, 0.25)
    q = min(shape)
    k = q - round(0.25 * q)
    dW = allowed.expand(_matrix(*shape, seed=2).float()).double()
    U, _, Vt = torch.linalg.svd(W)
    assert float((U[:, :k].T @ dW @ Vt[:k].T).norm() / dW.norm()) < 1e-6
    assert float((U[:, :k].T @ dW).norm() / dW.norm()) > 0.1


def test_activations_leaves_the_loud_inputs_alone() -> None:
    loud = torch.linalg.qr(_matrix(32, 8))[0]
    X = _matrix(500, 8) @ loud.T
    allowed = protect_activations((20, 32), X.T @ X / 500, 0.75)
    dW = allowed.expand(torch.randn(allowed.core_shape, generator=torch.Generator().manual_seed(0)))
    assert float((X @ dW.double().T).norm()) < 1e-4 * float(X.norm() * dW.norm())
    assert allowed.protected == 8


def test_ratio_one_trains_everything() -> None:
    W = _matrix(12, 20)
    for allowed in (protect_weights(W, 1.0), protect_weights_block(W, 1.0), protect_activations((12, 20), torch.eye(20), 1.0)):
        assert allowed.core_shape == (12, 20)
        assert (allowed.left, allowed.right, allowed.block) == (None, None, None)
