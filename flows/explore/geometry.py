"""View 8: a weight that is turned, cut and updated: what each change keeps of its spectrum and geometry, and where it leaks. Pure numpy.

Shape legend: W is m x n (out x in); its rows w_i are the neurons (columns in the d x n notation of Qiu et al. 2023, arXiv:2306.07280).

    turned        W R, R block-diagonal, each block (I - Q)(I + Q)^-1 of a skew-symmetric Q (Cayley)           as in OFT
    cut           the best approximation of W of a lower rank
    low rank      W + dW, dW the leading part of a given rank of the step against the gradient                  as in LoRA
    constrained   W + dW, dW that step without its part in the protected input directions                      as in OSFT

The two updates are scaled to the size of the turn's change, so that the rows of the comparison differ in kind and not in size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from flows.explore.views.figures import BLUE, GREEN, ORANGE, PURPLE, figure_axis, figure_layout
from osft_engine.subspace.counts import trainable_count

Floats = NDArray[np.float64]
COLOURS = {"before": "#8a8f98", "turned": BLUE, "cut": ORANGE, "low rank": PURPLE, "constrained": GREEN}
_NEURONS = 768  # pairs of more neurons cost more than a slider may; then the first ones stand for all, and the page says so
_STEPS, _STEP = 60, 3.0  # of the angles between neurons, degrees


@dataclass(frozen=True)
class Layer:
    """One layer as this view needs it. W and gradient: m x n; moment: input second moment, n x n."""

    W: Floats
    gradient: Floats
    moment: Floats

    @cached_property
    def factors(self) -> tuple[Floats, Floats, Floats]:
        """U, s, V^T of the weight."""
        U, s, Vt = np.linalg.svd(self.W, full_matrices=False)
        return U, s, Vt

    @cached_property
    def step_factors(self) -> tuple[Floats, Floats, Floats]:
        """U, s, V^T of the step against the gradient."""
        U, s, Vt = np.linalg.svd(-self.gradient, full_matrices=False)
        return U, s, Vt

    @cached_property
    def directions(self) -> Floats:
        """Eigenvectors of the input moment as columns, largest energy first (n x n)."""
        found: Floats = np.linalg.eigh(self.moment)[1][:, ::-1]
        return found

    @cached_property
    def start(self) -> Geometry:
        return geometry_of(self.W)


@dataclass(frozen=True)
class Geometry:
    """Singular values, norms of the neurons, cosines of their pairs (upper triangle) and hyperspherical energy of a weight."""

    singular: Floats
    norms: Floats
    cosines: Floats
    energy: float

    @cached_property
    def angles(self) -> Floats:
        """Of the pairs, in degrees."""
        return np.asarray(np.rad2deg(np.arccos(self.cosines)), dtype=np.float64)

    @cached_property
    def angle_counts(self) -> NDArray[np.int64]:
        """Pairs in each step of three degrees. By division: numpy's histogram with given edges sorts the pairs first."""
        return np.bincount(np.minimum(self.angles / _STEP, _STEPS - 1).astype(np.int64), minlength=_STEPS)


@dataclass(frozen=True)
class Change:
    """One changed weight against the weight before. Sizes are relative; angles in degrees; leak: share of dW in protected directions."""

    name: str
    geometry: Geometry
    size: float
    spectrum: float
    norms: float
    angles: float
    energy: float
    outputs: float
    leak: float


@dataclass(frozen=True)
class Settings:
    """angle: largest angle of the turn (degrees); block: size of its blocks; rank: of cut and low-rank update; ratio: trainable share."""

    angle: float
    block: int
    rank: int
    ratio: float


def cayley(Q: Floats) -> Floats:
    """(I - Q)(I + Q)^-1 of skew-symmetric matrices (... x b x b): rotations. An eigenvalue iq of Q turns its plane by 2 arctan q."""
    identity = np.eye(Q.shape[-1])
    return np.asarray(np.linalg.solve(identity + Q, identity - Q), dtype=np.float64)  # the two commute


def skew_blocks(size: int, block: int, angle: float) -> list[Floats]:
    """Skew-symmetric blocks along `size` inputs, drawn with one seed, each scaled so that its largest turn is `angle` degrees."""
    rng = np.random.default_rng(0)
    found = []
    for start in range(0, size, block):
        width = min(block, size - start)
        A = rng.normal(size=(width, width))
        Q = A - A.T
        largest = float(np.linalg.norm(Q, 2)) if width > 1 else 0.0
        found.append(Q * (np.tan(np.deg2rad(angle) / 2) / largest) if largest > 0.0 else Q)
    return found


def turn(W: Floats, block: int, angle: float) -> Floats:
    """W R: every group of `block` inputs is turned by itself (the last group may be smaller)."""
    turned = np.empty_like(W)
    start = 0
    for Q in skew_blocks(W.shape[1], block, angle):
        stop = start + len(Q)
        turned[:, start:stop] = W[:, start:stop] @ cayley(Q)
        start = stop
    return turned


@lru_cache(maxsize=4)
def _pairs(neurons: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of the upper triangle."""
    return np.triu_indices(neurons, 1)


def geometry_of(W: Floats) -> Geometry:
    """The geometry of W (m x n). A neuron of zeros has no direction and counts as orthogonal to all."""
    norms = np.asarray(np.linalg.norm(W, axis=1), dtype=np.float64)
    few = slice(0, _NEURONS)
    unit = W[few] / np.where(norms[few] > 0.0, norms[few], 1.0)[:, None]
    cosines = np.clip((unit @ unit.T)[_pairs(len(unit))], -1.0, 1.0)
    distances = np.sqrt(np.maximum(2.0 - 2.0 * cosines, 1e-12))
    singular = np.asarray(np.linalg.svd(W, compute_uv=False), dtype=np.float64)
    return Geometry(singular, norms, cosines, float(2.0 * (1.0 / distances).sum()))


def changes(layer: Layer, settings: Settings) -> list[Change]:
    """The four changed weights: turned, cut, low rank, constrained."""
    U, s, Vt = layer.factors
    turned = turn(layer.W, settings.block, settings.angle)
    size = float(np.linalg.norm(turned - layer.W))
    k = layer.W.shape[1] - trainable_count(layer.W.shape[1], settings.ratio)
    protected = layer.directions[:, :k]
    steps_u, steps_s, steps_v = layer.step_factors
    low = (steps_u[:, : settings.rank] * steps_s[: settings.rank]) @ steps_v[: settings.rank]
    step = -layer.gradient
    inside = step - (step @ protected) @ protected.T
    found = {
        "turned": turned,
        "cut": (U[:, : settings.rank] * s[: settings.rank]) @ Vt[: settings.rank],
        "low rank": layer.W + _scaled(low, size),
        "constrained": layer.W + _scaled(inside, size),
    }
    return [measure(layer, name, changed, protected) for name, changed in found.items()]


def _scaled(dW: Floats, size: float) -> Floats:
    norm = float(np.linalg.norm(dW))
    return dW * (size / norm) if norm > 0.0 else dW


def measure(layer: Layer, name: str, changed: Floats, protected: Floats) -> Change:
    """What a changed weight kept. `protected`: orthonormal input directions (n x k)."""
    before, after, dW = layer.start, geometry_of(changed), changed - layer.W
    moved = float(np.linalg.norm(dW))
    old = float((layer.W @ layer.moment * layer.W).sum())
    return Change(
        name=name,
        geometry=after,
        size=moved / float(np.linalg.norm(layer.W)),
        spectrum=float(np.abs(after.singular - before.singular).max() / before.singular[0]),
        norms=float((np.abs(after.norms - before.norms) / np.where(before.norms > 0.0, before.norms, 1.0)).max()),
        angles=float(np.abs(after.angles - before.angles).max()) if len(before.cosines) else 0.0,
        energy=after.energy / before.energy - 1.0 if before.energy else 0.0,
        outputs=float(np.sqrt(max(float((dW @ layer.moment * dW).sum()), 0.0) / old)) if old > 0.0 else 0.0,
        leak=float(np.linalg.norm(dW @ protected)) / moved if moved > 0.0 else 0.0,
    )


def share_text(value: float) -> str:
    """A share or a relative change in percent; rounding errors are said to be small, without their digits."""
    return "less than 0.01%" if 0.0 < abs(value) < 1e-4 else f"{value:.1%}" if abs(value) >= 1e-3 or value == 0.0 else f"{value:.2%}"


def angle_text(degrees: float) -> str:
    return "less than 0.01°" if 0.0 < degrees < 0.01 else f"{degrees:.1f}°"


def sentences(found: list[Change], settings: Settings) -> list[str]:
    """The comparison in words."""
    by_name = {each.name: each for each in found}
    turned, low, inside = by_name["turned"], by_name["low rank"], by_name["constrained"]
    return [
        f"Turned by up to {settings.angle:.0f}°, the weight moves by {turned.size:.1%} of its size; singular values change by "
        f"{share_text(turned.spectrum)} of the largest, angles by {angle_text(turned.angles)}; its leak is {share_text(turned.leak)}.",
        f"A low-rank update of that size changes singular values by {share_text(low.spectrum)} and angles by up to "
        f"{angle_text(low.angles)}; its leak is {share_text(low.leak)}.",
        f"The leak of a constrained update of that size is {share_text(inside.leak)}: outputs on what the layer reads change by "
        f"{share_text(inside.outputs)}, against {share_text(low.outputs)} (low rank) and {share_text(turned.outputs)} (turned).",
    ]


def geometry_rows(found: list[Change]) -> list[dict[str, str]]:
    """What each change keeps: a row per change."""
    return [
        {
            "change": each.name,
            "size": share_text(each.size),
            "singular values": share_text(each.spectrum),
            "norms": share_text(each.norms),
            "angles": angle_text(each.angles),
            "hyperspherical energy": share_text(each.energy),
            "outputs": share_text(each.outputs),
            "leak": share_text(each.leak),
        }
        for each in found
    ]


def spectrum_figure(layer: Layer, found: list[Change]) -> go.Figure:
    """Singular values before and after, on a logarithmic axis."""
    shown = {"before": layer.start.singular} | {each.name: each.geometry.singular for each in found}
    floor = float(layer.start.singular[0]) * 1e-4 or 1e-12
    data = [
        {
            "type": "scatter", "mode": "lines", "name": name, "x": list(range(1, len(values) + 1)),
            "y": np.maximum(values, floor).tolist(), "line": {"color": COLOURS[name], "width": 5 if name == "before" else 2},
        }
        for name, values in shown.items()
    ]  # fmt: skip
    axes = {"xaxis": figure_axis("direction, largest first"), "yaxis": {**figure_axis("singular value"), "type": "log"}}
    return go.Figure({"data": data, "layout": {**figure_layout(340), **axes}})


def ratio_figure(layer: Layer, found: list[Change]) -> go.Figure:
    """Each singular value after the change, divided by the one before: one where it is kept, clipped at a half and two."""
    before = np.maximum(layer.start.singular, float(layer.start.singular[0]) * 1e-9)
    places = list(range(1, len(before) + 1))
    data = [
        {
            "type": "scatter", "mode": "lines", "name": each.name, "x": places,
            "y": np.clip(each.geometry.singular / before, 0.5, 2.0).tolist(), "line": {"color": COLOURS[each.name], "width": 2},
        }
        for each in found
    ]  # fmt: skip
    down = {**figure_axis("after ÷ before"), "type": "log", "range": [-0.31, 0.31], "tickvals": [0.5, 0.7, 1, 1.4, 2]}
    return go.Figure({"data": data, "layout": {**figure_layout(340), "xaxis": figure_axis("singular value, largest first"), "yaxis": down}})


def angles_figure(layer: Layer, found: list[Change]) -> go.Figure:
    """How many pairs of neurons stand at which angle, before and after."""
    shown = {"before": layer.start} | {each.name: each.geometry for each in found}
    centres = [_STEP * (place + 0.5) for place in range(_STEPS)]
    data = []
    for name, geometry in shown.items():
        count = geometry.angle_counts
        look = {"color": COLOURS[name], "width": 5 if name == "before" else 2, "shape": "hvh"}
        data.append({"type": "scatter", "mode": "lines", "name": name, "x": centres, "y": count.tolist(), "line": look})
    axes = {"xaxis": figure_axis("angle between two neurons (degrees)"), "yaxis": figure_axis("pairs")}
    return go.Figure({"data": data, "layout": {**figure_layout(340), **axes}})


def shows_all_neurons(layer: Layer) -> bool:
    return len(layer.W) <= _NEURONS
