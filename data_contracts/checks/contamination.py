"""Contamination: a training row that gives away a held-out item of a suite (heldout_index.py defines how it is recognised).

A suite that cannot be read refuses the drop (fails closed), because the check would be impossible.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from data_contracts.matching.boilerplate import Boilerplate
from data_contracts.matching.heldout_index import HeldoutIndex
from data_contracts.matching.heldout_items import HeldoutItem
from data_contracts.rows.findings import Batch, Finding, WholeDrop


class Contamination:
    """Training rows against every held-out suite, and against the held-out rows of every earlier round."""

    def __init__(self, items: Sequence[HeldoutItem], boilerplate: Boilerplate, n: int, own_words: int) -> None:
        self._index = HeldoutIndex(items, boilerplate.phrases, n, own_words, contained=True)
        self._rows: dict[str, int] = dict.fromkeys(self._index.suites, 0)

    def observe(self, batch: Batch) -> Iterator[tuple[int, Finding]]:
        if len(self._index):
            for place, item in sorted(self._index.hits(batch.words, lambda place: batch.rows[place].texts()).items()):
                self._rows[item.suite] += 1
                yield (
                    place,
                    Finding("contamination", batch.rows[place].line, f"gives away item {item.line} of the held-out suite {item.suite!r}"),
                )

    def conclude(self, drop: WholeDrop) -> Iterator[tuple[int, Finding]]:
        return iter(())

    def summary(self) -> Mapping[str, Any]:
        items = self._index.suites
        return {"contamination": {name: {"items": items[name], "rows": rows} for name, rows in self._rows.items()}}
