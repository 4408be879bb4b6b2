"""Which rows are held out: decided by a stable hash of a row's prompt, so that a row lands on the same side next month.

The hash is read as a position in [0, 1). Rows below `heldout` go to the gate's split, rows from there to `heldout + sealed` to
the sealed split, the others to training. Only where a limit in rows binds do the cuts move; the order of the rows never does.

Rows with questions on one passage stay together: where a prompt has a long line, the hash is taken of its longest line alone. A line
that more than 5 % of the rows have is an instruction and no passage; those rows are placed by all of their prompt. A conversation
without a long line is placed by what stands before its first answer, so that a drop with one row for each answer of a conversation has
them all on one side; a beginning that more than 5 % of the rows have is a greeting and treated as an instruction is.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from data_contracts.config import ContractConfig
from data_contracts.rows.records import Row, normal_text, text_key
from data_contracts.rows.words import contains

_SPAN = 2.0**64
_PASSAGE_WORDS = 30
_INSTRUCTION_SHARE, _INSTRUCTION_ROWS = 0.05, 10

Keys = NDArray[np.uint64]


class Side(IntEnum):
    TRAIN = 0
    HELDOUT = 1
    SEALED = 2


@dataclass(frozen=True)
class Cuts:
    """Positions in [0, 1]: [0, heldout) is the gate's, [heldout, sealed) is sealed. `moved` where a limit in rows bound."""

    heldout: float
    sealed: float
    moved: bool


def carve_keys(row: Row) -> tuple[int, int]:
    """(key of the passage or of the conversation's beginning, key of the complete prompt); equal where one question has no long line."""
    prompt, opening = row.prompt_text(), row.opening_text()
    whole = text_key(normal_text(prompt), "carve")
    asked = "\n".join([str(turn.get("content") or "") for turn in row.messages[:-1] if turn["role"] != "system"])
    longest = max(asked.split("\n"), key=len)
    if len(longest.split()) >= _PASSAGE_WORDS:
        return text_key(normal_text(longest), "carve"), whole
    return (whole if opening == prompt else text_key(normal_text(opening), "carve")), whole


def place_keys(passage: Keys, whole: Keys) -> Keys:
    """uint64[n]: the key that places each row."""
    most = int(max(_INSTRUCTION_ROWS, _INSTRUCTION_SHARE * len(passage)))
    ordered = np.sort(passage)
    often = np.unique(ordered[::most])  # a key of more than `most` rows stands on one of these places
    rows = np.searchsorted(ordered, often, side="right") - np.searchsorted(ordered, often, side="left")
    return np.where(contains(often[rows > most], passage), whole, passage)


def choose_cuts(keys: Keys, config: ContractConfig) -> Cuts:
    """keys: uint64[n] of the rows that may be held out (rows with equal keys stay together)."""
    places = np.sort(_places(keys))
    n = len(places)
    heldout = _bounded(places, 0.0, config.heldout_fraction, config.heldout_min_rows, config.heldout_max_rows, n // 4)
    sealed = _bounded(places, heldout, config.sealed_fraction, config.sealed_min_rows, config.sealed_max_rows, n // 8)
    moved = heldout != config.heldout_fraction or sealed != heldout + config.sealed_fraction
    return Cuts(heldout=heldout, sealed=sealed, moved=bool(moved))


def _places(keys: Keys) -> NDArray[np.float64]:
    return keys.astype(np.float64) / _SPAN


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


def sides_of(keys: Keys, cuts: Cuts) -> NDArray[np.uint8]:
    """uint8[n]: the Side of each row."""
    places = _places(keys)
    return np.where(places < cuts.heldout, Side.HELDOUT, np.where(places < cuts.sealed, Side.SEALED, Side.TRAIN)).astype(np.uint8)
