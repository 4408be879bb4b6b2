"""View 6: the free directions of each layer after each round, and how many more rounds of a ratio fit. Pure, except for reading
manifests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from data_contracts.errors import LineageError, SkillstackError
from data_contracts.manifests import CheckpointManifest, LayerCapacity, read_manifest
from evals.audit.capacity import directions_of, free_share, free_shares, mean_share, rounds_left
from evals.numbers import size_of
from evals.report.scores import percent
from flows.explore.views.dynamics import title_of
from flows.explore.views.figures import BLUE, ORANGE, cells, line, styled
from flows.explore.views.matrix import alive_versions
from flows.lineage.storage.records import RoundRecord
from osft_engine.subspace.counts import trainable_count


@dataclass(frozen=True)
class CapacityView:
    """Rounds of the champion's ancestry with measured layers. left_out: the other rounds, in words."""

    rounds: tuple[str, ...]
    layers: tuple[Mapping[str, LayerCapacity], ...]
    left_out: tuple[str, ...]


def view_capacity(records: Sequence[RoundRecord]) -> CapacityView:
    """Capacities of the champion and its ancestors. Raises LineageError if none was measured."""
    alive = alive_versions(records)
    rounds: list[str] = []
    layers: list[Mapping[str, LayerCapacity]] = []
    left_out: list[str] = []
    for record in records:
        if record.checkpoint is None or record.version not in alive:
            continue
        try:
            found = read_manifest(record.checkpoint, CheckpointManifest, verify=False).layers
        except SkillstackError as error:
            left_out.append(f"{title_of(record)}: {error}")
            continue
        if found:
            rounds.append(title_of(record))
            layers.append(found)
        elif record.skill is not None:
            left_out.append(f"{title_of(record)}: trained by {record.method}, which measures no capacity")
    if not rounds:
        raise LineageError("lineage", "no round measured the capacity of its layers", "train a round with method osft")
    return CapacityView(tuple(rounds), tuple(layers), tuple(left_out))


def shares_by_round(view: CapacityView) -> list[list[float]]:
    """Rounds x layers: the free share of all directions."""
    names = layer_names(view)
    return [[free_share(layers[name]) if name in layers else 0.0 for name in names] for layers in view.layers]


def layer_names(view: CapacityView) -> list[str]:
    """Names in the model's order: block 2 before block 10."""
    return sorted(
        view.layers[-1], key=lambda name: [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in name.split(".")]
    )


def capacity_figure(view: CapacityView) -> go.Figure:
    """A row per layer, a column per round; dark means used."""
    shares = shares_by_round(view)
    names = [name.removeprefix("model.layers.") for name in layer_names(view)]
    turned = [[row[index] for row in shares] for index in range(len(names))]
    few = len(names) <= 40
    texts = [[f"{value:.0%}" for value in row] for row in turned] if few else None
    figure = go.Figure(cells(turned, list(view.rounds), names, texts=texts, legend="free"))
    figure.data[0].update(zmin=0, zmax=1)
    styled(figure, x="", y="layer", height=min(900, 140 + (20 if few else 5) * len(names)))
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(showgrid=False)
    return figure


def trend_figure(view: CapacityView, ratio: float) -> go.Figure:
    """Mean and smallest free share over the rounds, and the share that a round of `ratio` needs."""
    shares = shares_by_round(view)
    figure = go.Figure()
    rounds = list(range(len(view.rounds)))
    means = [sum(row) / len(row) for row in shares]
    figure.add_trace(line("free, mean over layers", rounds, means, BLUE, markers=True))
    figure.add_trace(line("free, least free layer", rounds, [min(row) for row in shares], ORANGE, markers=True))
    figure.add_hline(y=ratio, line={"color": "#8a8f98", "dash": "dash"}, annotation_text="one round at this ratio")
    styled(figure, x="", y="share of directions", height=300)
    # Room beside the first and the last round: a label that would reach over the edge of a phone's picture is not drawn at all.
    figure.update_xaxes(tickvals=rounds, ticktext=list(view.rounds), range=[-0.4, len(rounds) - 0.6])
    figure.update_yaxes(range=[0, 1], tickformat=".0%")
    return figure


def sentence(view: CapacityView, ratio: float) -> str:
    newest = view.layers[-1]
    left, mean = (
        rounds_left(newest, lambda layer: trainable_count(directions_of(layer), ratio)),
        mean_share([*free_shares(newest).values()]),
    )
    if left is None or mean is None:
        return f"After {view.rounds[-1]}: no layer has directions."
    plural = "" if left[0] == 1 else "s"
    fit = f"{left[0]} more round{plural} at ratio {ratio:.2f} fit, limited by {left[1]}"
    return f"After {view.rounds[-1]}: {percent(mean)}% free on average; {fit}."


def capacity_rows(view: CapacityView) -> list[dict[str, str]]:
    """All layers after the newest round, the least free first."""
    newest = view.layers[-1]
    shares = dict(zip(layer_names(view), shares_by_round(view)[-1], strict=True))
    return [
        {
            "layer": name,
            "free": f"{newest[name].free} ({percent(shares[name])}%)",
            "protected": str(newest[name].protected),
            "trainable": str(newest[name].trainable),
            "leak": size_of(newest[name].leak, 2),
        }
        for name in sorted(newest, key=lambda each: shares[each])
    ]
