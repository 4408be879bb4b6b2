"""How many directions of a layer there are, and which share of them is free for later rounds: one way for every page and metric."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from data_contracts.manifests import LayerCapacity


def directions_of(layer: LayerCapacity) -> int:
    """The number of directions of a layer: its inputs under `protect: activations`, where protected and trainable ones add up to the
    input width; else the smaller dimension."""
    return layer.shape[1] if layer.protected + layer.trainable == layer.shape[1] else min(layer.shape)


def free_share(layer: LayerCapacity) -> float:
    return layer.free / directions_of(layer)


def free_shares(layers: Mapping[str, LayerCapacity]) -> dict[str, float]:
    """Of each layer that has directions at all."""
    return {name: free_share(layer) for name, layer in layers.items() if min(layer.shape) > 0}


def rounds_left(layers: Mapping[str, LayerCapacity], moved: Callable[[LayerCapacity], int]) -> tuple[int, str] | None:
    """(how many more rounds fit that move so many directions of each layer, the layer that limits them: of several, the least free).

    None where such a round moves nothing.
    """
    fits = {name: layer.free // moved(layer) for name, layer in layers.items() if min(layer.shape) > 0 and moved(layer) > 0}
    tightest = min(fits, key=lambda name: (fits[name], free_share(layers[name])), default=None)
    return (fits[tightest], tightest) if tightest is not None else None


def mean_share(shares: Sequence[float]) -> float | None:
    """The mean over layers; None without any."""
    return sum(shares) / len(shares) if shares else None
