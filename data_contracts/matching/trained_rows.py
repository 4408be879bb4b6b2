"""Which new held-out items a model has seen: items that a row it was trained on gives away, or that an older suite has already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from data_contracts.contract.rules import default_options
from data_contracts.matching.boilerplate import learn_boilerplate
from data_contracts.matching.heldout_index import HeldoutIndex
from data_contracts.matching.heldout_items import HeldoutItem
from data_contracts.rows.jsonl import read_objects
from data_contracts.rows.records import Row, normal_row, shape_of
from data_contracts.rows.words import word_batch

_BATCH = 2048


def seen_items(items: Sequence[HeldoutItem], trained: Sequence[Path]) -> Iterator[tuple[HeldoutItem, str]]:
    """(item, the first row that gives it away as `file:line`). `trained`: files of clean rows in the drop's normal form.

    The same comparison by which a drop's rows are kept apart from its held-out rows, the other way round. One item is named once.
    """
    left = list(items)
    words = default_options()["contamination"]
    for path in trained:
        for rows in _batches(path):
            if not left:
                return
            batch = word_batch([row.texts() for _, row in rows])
            frames, found = learn_boilerplate(batch).frames, {}
            while left:  # a row names one item at a time
                index = HeldoutIndex(left, frames, int(words["words"]), int(words["own_words"]), contained=False)
                found = {item: rows[place][0] for place, item in sorted(index.hits(batch, lambda _: ()).items(), reverse=True)}
                if not found:
                    break
                yield from found.items()
                left = [item for item in left if item not in found]


def _batches(path: Path) -> Iterator[list[tuple[str, Row]]]:
    rows = ((where, _row(number, value)) for number, (where, value) in enumerate(read_objects(path), 1))
    while batch := list(islice(rows, _BATCH)):
        yield batch


def _row(number: int, value: Mapping[str, Any]) -> Row:
    return normal_row(number, shape_of(value), value)
