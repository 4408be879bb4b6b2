"""The linear algebra alone: subspaces span what they should, bases are orthonormal, protections protect."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from osft_engine.subspace.algebra import (
    directions_holding,
    falling_energies,
    joined_directions,
    singular_subspaces,
    sketch_moment,
    weakest_directions,
)

SHAPES = [(24, 24), (16, 40), (40, 16)]


def _matrix(m: int, n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _identity_error(Q: torch.Tensor) -> float:
    return float((Q.T @ Q - torch.eye(Q.shape[1], dtype=Q.dtype)).abs().max())


@pytest.mark.parametrize("shape", SHAPES)
def test_subspaces_rebuild_the_matrix(shape: tuple[int, int]) -> None:
    W = _matrix(*shape)
    spaces = singular_subspaces(W)
    torch.testing.assert_close((spaces.U * spaces.values) @ spaces.V.T, W, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(spaces.values, torch.linalg.svdvals(W), rtol=1e-8, atol=1e-8)
    assert _identity_error(spaces.U) < 1e-9
    assert _identity_error(spaces.V) < 1e-9


def test_a_rank_deficient_matrix_still_gives_orthonormal_bases() -> None:
    W = _matrix(20, 3) @ _matrix(3, 30, seed=1)
    spaces = singular_subspaces(W)
    assert _identity_error(spaces.U) < 1e-10
    assert _identity_error(spaces.V) < 1e-10
    k = 3
    torch.testing.assert_close(spaces.U[:, :k] @ (spaces.U[:, :k].T @ W), W, rtol=1e-6, atol=1e-6)


def test_joined_directions_span_both_and_keep_the_first() -> None:
    old = torch.linalg.qr(_matrix(30, 5))[0]
    new = torch.cat([old[:, :2], torch.linalg.qr(_matrix(30, 4, seed=1))[0]], dim=1)
    both = joined_directions(old, new)
    assert both.shape == (30, 9)
    assert torch.equal(both[:, :5], old)
    assert _identity_error(both) < 1e-10
    torch.testing.assert_close(both @ (both.T @ new), new)


def test_weakest_directions_have_the_least_energy() -> None:
    X = _matrix(400, 48) * torch.logspace(0, -2, 48, dtype=torch.float64)
    M = X.T @ X / 400
    found = weakest_directions(M, 12)
    least = torch.linalg.eigvalsh(M)[:12].sum()
    assert float(torch.trace(found.T @ M @ found)) == pytest.approx(float(least), rel=1e-3)
    assert _identity_error(found) < 1e-10


def test_a_full_sketch_is_exact_and_a_short_one_keeps_the_trace() -> None:
    X = _matrix(100, 20)
    M = X.T @ X / 100
    torch.testing.assert_close(sketch_moment(M, 20).dense(), M, rtol=1e-5, atol=1e-5)
    short = sketch_moment(M, 6)
    assert short.vectors.shape == (20, 6)
    assert float(short.dense().trace()) == pytest.approx(float(M.trace()), rel=1e-5)


@pytest.mark.parametrize("kept", [20, 6, 0])
def test_a_sketch_knows_its_energies_without_decomposing(kept: int) -> None:
    X = _matrix(100, 20)
    sketch = sketch_moment(X.T @ X / 100, kept)
    expected = np.linalg.eigvalsh(sketch.dense().numpy())[::-1].copy()
    torch.testing.assert_close(sketch.falling_energies(), torch.from_numpy(expected), rtol=1e-5, atol=1e-6)


def test_directions_holding_counts_energy() -> None:
    energy = falling_energies(torch.diag(torch.tensor([0.5, 8.0, 1.0, 0.5], dtype=torch.float64)))
    assert [directions_holding(energy, share) for share in (0.5, 0.85, 0.95, 1.0)] == [1, 2, 3, 4]
    assert directions_holding(torch.zeros(4), 0.9) == 0
