"""The view Geometry against scipy's expm, numpy's own decompositions and sums written out; and the engine's own leak."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.linalg import expm, logm

from flows.explore.geometry import (
    Layer,
    Settings,
    angles_figure,
    cayley,
    changes,
    geometry_of,
    geometry_rows,
    ratio_figure,
    sentences,
    share_text,
    skew_blocks,
    spectrum_figure,
    turn,
)
from osft_engine.subspace.protection import protect_activations

RNG = np.random.default_rng(11)
W, GRADIENT = RNG.normal(size=(24, 40)), RNG.normal(size=(24, 40))
X = RNG.normal(size=(300, 40)) * np.linspace(3, 0.1, 40)
LAYER = Layer(W, GRADIENT, X.T @ X / len(X))
SETTINGS = Settings(angle=35.0, block=8, rank=5, ratio=0.25)


@pytest.mark.parametrize("q", [-1.3, 0.0, 0.4, 5.0])
def test_cayley_in_the_plane_is_a_rotation_by_twice_the_arctangent(q: float) -> None:
    angle = 2 * math.atan(q)
    expected = expm(np.array([[0.0, -angle], [angle, 0.0]]))
    np.testing.assert_allclose(cayley(np.array([[0.0, q], [-q, 0.0]])), expected, atol=1e-14)


def test_cayley_against_the_exponential() -> None:
    """(I - Q)(I + Q)^-1 = exp(-2 artanh Q), artanh as half the difference of two matrix logarithms."""
    A = np.random.default_rng(3).normal(size=(6, 6))
    Q = 0.2 * (A - A.T)
    logarithm = logm(np.eye(6) - Q) - logm(np.eye(6) + Q)
    np.testing.assert_allclose(cayley(Q), expm(logarithm).real, atol=1e-12)
    np.testing.assert_allclose(cayley(Q).T @ cayley(Q), np.eye(6), atol=1e-13)
    assert np.linalg.det(cayley(Q)) == pytest.approx(1.0)


@pytest.mark.parametrize("block", [2, 8, 32])
@pytest.mark.parametrize("angle", [10.0, 90.0, 170.0])
def test_the_largest_angle_is_the_one_that_was_asked_for(block: int, angle: float) -> None:
    for Q in skew_blocks(40, block, angle):
        turned = np.abs(np.angle(np.linalg.eigvals(cayley(Q)), deg=True))
        assert turned.max() == pytest.approx(angle, abs=1e-8)


def test_a_turn_is_w_times_a_block_diagonal_rotation() -> None:
    R = np.linalg.lstsq(W.T @ W + np.eye(40), W.T @ turn(W, 8, 35.0) + turn(np.eye(40), 8, 35.0), rcond=None)[0]
    inside = np.kron(np.eye(5), np.ones((8, 8))) > 0
    np.testing.assert_allclose(R[~inside], 0.0, atol=1e-10)
    np.testing.assert_allclose(R.T @ R, np.eye(40), atol=1e-10)
    np.testing.assert_allclose(turn(W, 8, 0.0), W)
    assert turn(np.eye(7), 4, 60.0)[4:, :4] == pytest.approx(0.0)  # the last block is smaller


def test_geometry_written_out() -> None:
    found = geometry_of(W)
    unit = [row / math.sqrt(sum(value * value for value in row)) for row in W.tolist() for row in [np.array(row)]]
    pairs = [(i, j) for i in range(24) for j in range(i + 1, 24)]
    assert found.energy == pytest.approx(2 * sum(1 / math.dist(unit[i], unit[j]) for i, j in pairs), rel=1e-9)
    np.testing.assert_allclose(found.cosines, [float(np.dot(unit[i], unit[j])) for i, j in pairs], atol=1e-12)
    np.testing.assert_allclose(found.singular, np.sqrt(np.linalg.eigvalsh(W @ W.T)[::-1]), atol=1e-10)
    np.testing.assert_allclose(found.norms, np.sqrt((W * W).sum(1)))


def test_a_turn_keeps_geometry_and_leaks() -> None:
    turned = next(each for each in changes(LAYER, SETTINGS) if each.name == "turned")
    assert turned.size > 0.1
    assert max(turned.spectrum, turned.norms, abs(turned.energy)) < 1e-12
    assert turned.angles < 1e-5
    assert turned.leak > 0.3


def test_a_cut_and_a_low_rank_update_change_the_spectrum() -> None:
    found = {each.name: each for each in changes(LAYER, SETTINGS)}
    singular = np.linalg.svd(W, compute_uv=False)
    np.testing.assert_allclose(found["cut"].geometry.singular[:5], singular[:5], atol=1e-10)
    np.testing.assert_allclose(found["cut"].geometry.singular[5:], 0.0, atol=1e-10)
    assert found["cut"].size == pytest.approx(math.sqrt((singular[5:] ** 2).sum() / (singular**2).sum()))  # Eckart and Young
    low = found["low rank"]
    assert low.size == pytest.approx(found["turned"].size)
    assert low.spectrum > 0.01
    assert low.angles > 1.0
    assert low.leak > 0.3


@pytest.mark.parametrize("ratio", [0.1, 0.25, 0.6])
def test_a_constrained_update_leaks_nothing_and_the_leak_is_the_engines(ratio: float) -> None:
    found = {each.name: each for each in changes(LAYER, Settings(35.0, 8, 5, ratio))}
    assert found["constrained"].leak < 1e-12
    assert found["constrained"].size == pytest.approx(found["turned"].size)
    assert found["constrained"].outputs < found["low rank"].outputs
    allowed = protect_activations((24, 40), torch.from_numpy(LAYER.moment), ratio)
    dW = turn(W, 8, 35.0) - W
    assert found["turned"].leak == pytest.approx(allowed.leak(torch.from_numpy(dW)), abs=1e-4)
    outputs = np.linalg.norm(X @ dW.T) / np.linalg.norm(X @ W.T)
    assert found["turned"].outputs == pytest.approx(outputs, rel=1e-9)


def test_words_table_and_figures_show_these_numbers() -> None:
    found = changes(LAYER, SETTINGS)
    turned, cut, low, _ = found
    assert f"{100 * turned.leak:.1f}%" in sentences(found, SETTINGS)[0]
    assert "singular values change by less than 0.01%" in sentences(found, SETTINGS)[0]
    assert f"{low.angles:.1f}°" in sentences(found, SETTINGS)[1]
    assert "is less than 0.01%" in sentences(found, SETTINGS)[2]
    rows = geometry_rows(found)
    assert [row["change"] for row in rows] == ["turned", "cut", "low rank", "constrained"]
    assert rows[1]["size"] == f"{100 * cut.size:.1f}%"
    assert [row["leak"] == "less than 0.01%" for row in rows] == [False, False, False, True]
    assert (share_text(0.0), share_text(-0.0004), share_text(1e-9), share_text(2.88)) == ("0.0%", "-0.04%", "less than 0.01%", "288.0%")
    lines = spectrum_figure(LAYER, found).data
    np.testing.assert_allclose(lines[0].y, np.linalg.svd(W, compute_uv=False))
    assert [line.name for line in lines] == ["before", "turned", "cut", "low rank", "constrained"]
    ratios = {line.name: np.array(line.y) for line in ratio_figure(LAYER, found).data}
    np.testing.assert_allclose(ratios["turned"], 1.0, atol=1e-9)
    np.testing.assert_allclose(ratios["cut"], [1.0] * 5 + [0.5] * 19)  # what the cut took away is at the lower edge
    assert np.abs(ratios["low rank"] - 1.0).max() > 0.05
    assert sum(angles_figure(LAYER, found).data[0].y) == 24 * 23 // 2  # every pair once


def test_no_turn_no_gradient_and_neurons_of_zeros() -> None:
    flat = Layer(np.vstack([W[:3], np.zeros((1, 40))]), np.zeros((4, 40)), np.eye(40))
    found = {each.name: each for each in changes(flat, Settings(0.0, 8, 4, 0.25))}
    assert all(each.leak == pytest.approx(0.0, abs=1e-9) for name, each in found.items() if name != "cut")
    assert all(math.isfinite(value) for each in found.values() for value in (each.energy, each.angles, each.norms, each.outputs))
