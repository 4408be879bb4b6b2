"""View 2: an update before and after the constraint, for each protection, with its leak. Pure.

Shape legend: dW is m x n; in the rotated frame it is A = B^T dW Q with orthonormal B (m x m) and Q (n x n), whose columns are sorted by
energy: U and V of the weight for `weights` and `weights_block`; U and the eigenvectors of the input moment for `activations`. In this
frame each constraint is a mask, so moving a slider needs no decomposition:

    weights         the first k rows and the first k columns are zero
    weights_block   the k x k corner is zero
    activations     the first k columns are zero
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import torch
from torch import Tensor

from evals.numbers import size_of
from flows.explore.views.figures import HEAT, figure_axis, figure_layout
from osft_engine.config import Protect
from osft_engine.subspace.algebra import singular_subspaces
from osft_engine.subspace.counts import trainable_count

_BINS = 40
_FLOOR = 1e-4  # relative to the largest bin; smaller values have one colour


@dataclass(frozen=True)
class Constrained:
    """An update in the rotated frame, before and after. Shares are of its squared norm; leaks are defined as in the engine."""

    before: Tensor
    after: Tensor
    protect: Protect
    protected: int
    trainable: int
    leak_before: float
    leak_after: float
    passes: float

    def sentence(self) -> str:
        return (
            f"Leak before {self.leak_before:.4f}, after {size_of(self.leak_after, 2)}: {self.passes:.1%} of the update's energy passes the "
            f"constraint ({self.protected} directions protected, {self.trainable} trainable)."
        )


def weight_frame(W: Tensor) -> tuple[Tensor, Tensor]:
    """B (m x m) and Q (n x n) of a weight: its singular vectors, completed to a basis. float64."""
    spaces = singular_subspaces(W)
    return _completed(spaces.U), _completed(spaces.V)


def input_frame(W: Tensor, moment: Tensor) -> tuple[Tensor, Tensor]:
    """B of the weight, and as Q the eigenvectors of the input moment (n x n), largest eigenvalue first. float64."""
    Q = torch.linalg.eigh(moment.to(torch.float32))[1].flip(-1).to(torch.float64)  # as in the engine
    return weight_frame(W)[0], Q


def _completed(basis: Tensor) -> Tensor:
    """A square orthonormal basis whose first columns are the given ones (n x k)."""
    n, k = basis.shape
    if n == k:
        return basis
    rest = torch.linalg.qr(basis, mode="complete")[0][:, k:]
    return torch.cat([basis, rest], dim=1)


def rotate(dW: Tensor, frame: tuple[Tensor, Tensor]) -> Tensor:
    """A = B^T dW Q."""
    B, Q = frame
    rotated: Tensor = B.T @ dW.to(torch.float64) @ Q
    return rotated


def constrain(rotated: Tensor, protect: Protect, ratio: float) -> Constrained:
    """Apply one protection at a ratio to a rotated update (m x n)."""
    m, n = rotated.shape
    directions = n if protect == "activations" else min(m, n)
    trainable = trainable_count(directions, ratio)
    k = directions - trainable
    after = rotated.clone()
    if protect == "weights":
        after[:k], after[:, :k] = 0.0, 0.0
    elif protect == "weights_block":
        after[:k, :k] = 0.0
    else:
        after[:, :k] = 0.0
    size = float(rotated.norm())
    passes = (float(after.norm()) / size) ** 2 if size > 0.0 else 0.0
    return Constrained(rotated, after, protect, k, trainable, leak(rotated, protect, k), leak(after, protect, k), passes)


def leak(rotated: Tensor, protect: Protect, k: int) -> float:
    """Relative norm of the update in protected directions: AllowedUpdate.leak in the rotated frame."""
    size = float(rotated.norm())
    if size == 0.0:
        return 0.0
    if protect == "weights":
        return max(float(rotated[:k].norm()), float(rotated[:, :k].norm())) / size
    return float(rotated[: k if protect == "weights_block" else None, :k].norm()) / size


def binned(rotated: Tensor, k: int, *, rows_too: bool) -> tuple[Tensor, list[int], list[int]]:
    """Root mean square over bins whose edges include the cut, and the edges of rows and columns."""
    rows = _edges(rotated.shape[0], k if rows_too else 0)
    columns = _edges(rotated.shape[1], k)
    total = torch.nn.functional.pad(rotated.square().cumsum(0).cumsum(1), (1, 0, 1, 0))[rows][:, columns]
    sums = total[1:, 1:] - total[:-1, 1:] - total[1:, :-1] + total[:-1, :-1]
    counts = torch.tensor(rows).diff()[:, None] * torch.tensor(columns).diff()[None, :]
    return (sums.clamp_min(0) / counts).sqrt(), rows, columns


def _edges(size: int, cut: int) -> list[int]:
    """Bin edges from 0 to `size`, one at the cut, with about the same width on both sides."""
    near = round(_BINS * cut / size)
    head = torch.linspace(0, cut, max(1, near) + 1)
    tail = torch.linspace(cut, size, max(1, _BINS - near) + 1)
    return sorted({round(float(edge)) for edge in torch.cat([head, tail])})


def constraint_figure(result: Constrained) -> go.Figure:
    """Before and after side by side, with one colour scale and a frame around the protected region."""
    k, rows_too = result.protected, result.protect != "activations"
    pictures = [binned(each, k, rows_too=rows_too) for each in (result.before, result.after)]
    largest = float(pictures[0][0].max()) or 1.0
    # One plain dict: with Plotly's own methods it took 60 ms, most of the time of a slider.
    data, shapes = [], []
    for place, (values, rows, columns) in zip(("", "2"), pictures, strict=True):
        level = (values / largest).clamp_min(_FLOOR).log10()
        # Edges, not centres, because the bins differ in width at the cut.
        drawn = {"type": "heatmap", "z": level.tolist(), "x": columns, "y": rows, "zmin": -4, "zmax": 0, "colorscale": HEAT}
        data.append({**drawn, **_KEY, "showscale": place == "2", "xaxis": f"x{place}", "yaxis": f"y{place}"})
        for x1, y1 in _frames(result):
            frame = {"type": "rect", "x0": 0, "x1": x1, "y0": 0, "y1": y1, "line": {"color": "#4aa8ff", "width": 3}}
            shapes.append({**frame, "xref": f"x{place}", "yref": f"y{place}"})
    return go.Figure({"data": data, "layout": {**figure_layout(400), **_side_by_side(), "shapes": shapes}})


_KEY = {
    "colorbar": {"title": {"text": "size"}, "thickness": 12, "tickvals": [-4, -2, 0], "ticktext": ["≤ 0.0001", "0.01", "1"]},
    "hovertemplate": "rows from %{y}, columns from %{x}<br>10^%{z:.2f} of the largest<extra></extra>",
}


def _side_by_side() -> dict[str, Any]:
    """Axes and headings of two figures that share the left axis."""
    across, down = {**figure_axis("input direction"), "showgrid": False}, {"autorange": "reversed", "showgrid": False}
    named = {"y": 1.0, "xref": "paper", "yref": "paper", "xanchor": "center", "yanchor": "bottom", "showarrow": False, "font": {"size": 16}}
    return {
        "xaxis": {**across, "domain": [0.0, 0.48], "anchor": "y"},
        "xaxis2": {**across, "domain": [0.52, 1.0], "anchor": "y2"},
        "yaxis": {**figure_axis("output direction, largest first"), **down, "anchor": "x"},
        "yaxis2": {**figure_axis(""), **down, "anchor": "x2", "matches": "y", "showticklabels": False},
        "annotations": [{"text": "before", "x": 0.24, **named}, {"text": "after", "x": 0.76, **named}],
    }


def _frames(result: Constrained) -> list[tuple[int, int]]:
    """Lower right corners of the protected regions."""
    (m, n), k = result.before.shape, result.protected
    return {"weights": [(n, k), (k, m)], "weights_block": [(k, k)], "activations": [(k, m)]}[result.protect] if k else []


def comparison_rows(results: list[Constrained]) -> list[dict[str, str]]:
    """The three protections side by side."""
    return [
        {
            "protection": each.protect,
            "protected": str(each.protected),
            "trainable": str(each.trainable),
            "leak before": f"{each.leak_before:.4f}",
            "leak after": size_of(each.leak_after, 2),
            "passes": f"{each.passes:.1%}",
        }
        for each in results
    ]
