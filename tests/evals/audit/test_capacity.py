"""Directions of a layer: its inputs under `activations`, its smaller side under `weights`."""

from __future__ import annotations

import pytest

from data_contracts.manifests import LayerCapacity
from evals.audit.capacity import directions_of, free_share


@pytest.mark.parametrize(
    ("shape", "protected", "trainable", "free", "directions"),
    [
        ((32, 64), 48, 16, 16, 64),  # activations: 64 inputs, although the smaller side is 32
        ((64, 32), 24, 8, 8, 32),
        ((32, 64), 24, 8, 4, 32),  # weights: singular directions, of which there are 32
    ],
)
def test_the_free_share_is_of_the_directions_there_are(
    shape: tuple[int, int], protected: int, trainable: int, free: int, directions: int
) -> None:
    layer = LayerCapacity(shape=shape, protected=protected, trainable=trainable, free=free, leak=0.0)
    assert directions_of(layer) == directions
    assert free_share(layer) == pytest.approx(free / directions)
