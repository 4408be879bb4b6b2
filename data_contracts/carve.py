"""Which rows are held out: decided by a stable hash of a row's prompt, so that a row lands on the same side next month.

The hash is read as a position in [0, 1). Rows below `heldout` go to the gate's split, rows from there to `heldout + sealed` to
the sealed split, the others to training. Only where a limit in rows binds do the cuts move; the order of the rows never does.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from data_contracts.config import ContractConfig

_SPAN = 2.0**64


class Side(IntEnum):
    TRAIN = 0
    HELDOUT = 1
    SEALED = 2


@dataclass(frozen=True)
class Cuts:
    """Positions in [0, 1): [0, heldout) is the gate's, [heldout, sealed) is sealed. `moved` where a limit in rows bound."""

    heldout: float
    sealed: float
    moved: bool


def choose_cuts(keys: NDArray[np.uint64], config: ContractConfig) -> Cuts:
    """keys: n 64-bit hashes of the rows that may be held out (rows with equal prompts have equal keys, and stay together)."""
    places = np.sort(keys.astype(np.float64) / _SPAN)
    n = len(places)
    heldout = _bounded(places, 0.0, config.heldout_fraction, config.heldout_min_rows, config.heldout_max_rows, n // 4)
    sealed = _bounded(places, heldout, config.sealed_fraction, config.sealed_min_rows, config.sealed_max_rows, n // 8)
    moved = heldout != config.heldout_fraction or sealed != heldout + config.sealed_fraction
    return Cuts(heldout=heldout, sealed=sealed, moved=bool(moved))


def _bounded(places: NDArray[np.float64], start: float, fraction: float, least: int, most: int, ceiling: int) -> float:
    """The end of the interval from `start` that holds `fraction` of the hash space, moved where a limit in rows binds."""
    if fraction == 0 or len(places) == 0:
        return start
    first = int(np.searchsorted(places, start))
    natural = int(np.searchsorted(places, start + fraction)) - first
    wanted = min(max(natural, min(least, ceiling)), most)
    if wanted == natural:
        return start + fraction
    last = first + wanted
    return float(places[last]) if last < len(places) else 1.0


def side_of(key: int, cuts: Cuts) -> Side:
    """The side of one row. key: its 64-bit hash."""
    place = float(np.float64(key) / _SPAN)
    if place < cuts.heldout:
        return Side.HELDOUT
    return Side.SEALED if place < cuts.sealed else Side.TRAIN
