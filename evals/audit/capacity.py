"""How many directions of a layer there are, and which share of them is free for later rounds: one way for every page and metric."""

from __future__ import annotations

from collections.abc import Sequence

from data_contracts.manifests import LayerCapacity


def directions_of(layer: LayerCapacity) -> int:
    """The number of directions of a layer: its inputs under `protect: activations`, where protected and trainable ones add up to the
    input width; else the smaller dimension."""
    return layer.shape[1] if layer.protected + layer.trainable == layer.shape[1] else min(layer.shape)


def free_share(layer: LayerCapacity) -> float:
    return layer.free / directions_of(layer)


def mean_share(shares: Sequence[float]) -> float | None:
    """The mean over layers; None without any."""
    return sum(shares) / len(shares) if shares else None
