"""View 4: the course of a training: loss, learning rate, speed, and how many of the trainable directions the update uses.

The curve is read from MLflow, also while the round is training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots

from data_contracts.errors import LineageError
from data_contracts.manifests import CheckpointManifest, LayerCapacity, read_manifest
from evals.numbers import size_of
from flows.explore.reading import metric_points, training_run
from flows.explore.views.figures import BLUE, GREEN, ORANGE, PURPLE, line, styled
from flows.lineage.storage.connection import Lineage
from flows.lineage.storage.records import RoundRecord
from osft_engine.checkpoint.update import load_update
from osft_engine.subspace.protection import LayerUpdate

QUANTITIES = ("loss", "lr", "tokens_per_second")
_TITLES = {"loss": "loss (nats per token)", "lr": "learning rate", "tokens_per_second": "tokens per second"}
_SHORT = {"loss": "loss", "lr": "learning rate", "tokens_per_second": "tokens/s"}
_USED_SHARE = 0.9  # of an update's squared norm, the same share as for written directions in the subspace memory


@dataclass(frozen=True)
class Curve:
    """name -> (step, value) points of one training."""

    label: str
    points: Mapping[str, Sequence[tuple[int, float]]]
    running: bool

    @property
    def last_step(self) -> int:
        return max((points[-1][0] for points in self.points.values() if points), default=0)

    def sentence(self) -> str:
        loss = self.points.get("loss", ())
        if not loss:
            return f"{self.label}: no steps yet."
        state = "training now" if self.running else "finished"
        return f"{self.label} ({state}): {self.last_step} steps, loss {loss[0][1]:.3f} at first, {loss[-1][1]:.3f} at the last step."


@dataclass(frozen=True)
class LayerUse:
    """How many of a layer's trainable directions have 90 % of the energy of its update."""

    layer: str
    used: int
    trainable: int
    leak: float

    @property
    def share(self) -> float:
        return self.used / self.trainable if self.trainable else 0.0


def title_of(record: RoundRecord) -> str:
    attempt = f", attempt {record.attempt}" if record.attempt > 1 else ""
    return f"round {record.round} · {record.skill or 'base'}{attempt}"


def curve_of_round(lineage: Lineage, record: RoundRecord) -> Curve:
    """A round's curve from MLflow. Raises LineageError if its run was deleted or has no curve."""
    if record.status in ("deleted", "missing"):
        raise LineageError(title_of(record), f"its run {record.run_id} is {record.status} in MLflow", "restore it, or choose another round")
    run = training_run(lineage, record.run_id)
    points = {} if run is None else {name: metric_points(lineage, run.info.run_id, f"train/{name}") for name in QUANTITIES}
    if run is None or not points["loss"]:
        raise LineageError(
            title_of(record), "has no training curve in MLflow", "round 0 trains nothing; another round has one from its first step on"
        )
    return Curve(title_of(record), points, running=run.info.status == "RUNNING")


def measure_use(update: Mapping[str, LayerUpdate], layers: Mapping[str, LayerCapacity]) -> tuple[LayerUse, ...]:
    """The number of directions with 90 % of the energy of each layer's update, and the number of trainable ones."""
    found = []
    for name, each in update.items():
        if name not in layers:
            continue
        if each.right is None:
            values = torch.linalg.svdvals(each.left.to(torch.float32))
        else:  # singular values of left right^T from two small triangles
            values = torch.linalg.svdvals(torch.linalg.qr(each.left)[1] @ torch.linalg.qr(each.right)[1].T)
        energy = values.square()
        total = float(energy.sum())
        used = int((energy.cumsum(0) < _USED_SHARE * total).sum()) + 1 if total > 0.0 else 0
        found.append(LayerUse(name, used, layers[name].trainable, layers[name].leak))
    return tuple(found)


def use_of_round(record: RoundRecord) -> tuple[LayerUse, ...]:
    """Subspace use of a finished round, from its stored update. Raises LineageError if it has none."""
    if record.checkpoint is None:
        raise LineageError(title_of(record), "has no checkpoint yet, so its subspace use is unknown", "wait for its training to end")
    manifest = read_manifest(record.checkpoint, CheckpointManifest, verify=False)
    if "update" not in manifest.files or not manifest.layers:
        raise LineageError(title_of(record), f"was trained by {manifest.method}, which has no protected subspace", "choose an osft round")
    path = record.checkpoint / manifest.files["update"].path
    return _measured_use(path, path.stat().st_mtime_ns, record.checkpoint)


@lru_cache(maxsize=16)
def _measured_use(path: Path, stamp: int, folder: Path) -> tuple[LayerUse, ...]:
    """Cached per file: `stamp` changes with it."""
    return measure_use(load_update(path), read_manifest(folder, CheckpointManifest, verify=False).layers)


def use_rows(uses: Sequence[LayerUse]) -> list[dict[str, str]]:
    return [
        {"layer": use.layer, "in use": f"{use.used} of {use.trainable} ({use.share:.0%})", "leak": size_of(use.leak, 2)}
        for use in sorted(uses, key=lambda each: -each.share)
    ]


def curve_figure(curve: Curve) -> go.Figure:
    """Loss, learning rate and speed one below the other, with a common axis of steps."""
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.07, row_heights=[0.5, 0.25, 0.25])
    for row, (name, colour) in enumerate(zip(QUANTITIES, (BLUE, ORANGE, GREEN), strict=True), start=1):
        points = curve.points.get(name, ())
        trace = line(_TITLES[name], [step for step, _ in points], [value for _, value in points], colour)
        figure.add_trace(trace, row=row, col=1)
    styled(figure, x="", y="", height=460)
    for row, name in enumerate(QUANTITIES, start=1):
        figure.update_yaxes(title_text=_SHORT[name], exponentformat="e", row=row, col=1)
    figure.update_xaxes(title_text="optimiser step", row=3, col=1)
    return figure


def use_figure(uses: Sequence[LayerUse]) -> go.Figure:
    """The share of the trainable directions that each layer's update uses."""
    figure = go.Figure()
    figure.add_bar(
        x=[use.layer.removeprefix("model.layers.") for use in uses], y=[use.share for use in uses], name="share in use",
        marker={"color": PURPLE}, customdata=[[use.used, use.trainable, size_of(use.leak, 2)] for use in uses],
        hovertemplate="%{x}<br>%{customdata[0]} of %{customdata[1]} directions<br>leak %{customdata[2]}<extra></extra>",
    )  # fmt: skip
    styled(figure, x="layer", y="share of trainable directions in use", height=320)
    figure.update_yaxes(range=[0, 1], tickformat=".0%")
    return figure
