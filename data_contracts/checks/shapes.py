"""Counts the three shapes of rows; a drop that mixes them was usually put together by mistake."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from data_contracts.rows.findings import Batch, Finding, WholeDrop


class Shapes:
    """chat, completion, document."""

    def __init__(self) -> None:
        self._rows: Counter[str] = Counter()

    def observe(self, batch: Batch) -> Iterator[tuple[int, Finding]]:
        self._rows.update(row.shape for row in batch.rows)
        return iter(())

    def conclude(self, drop: WholeDrop) -> Iterator[tuple[int, Finding]]:
        if len(self._rows) > 1:
            counts = ", ".join(f"{count} {shape}" for shape, count in self._rows.most_common())
            yield -1, Finding("mixed_shapes", 0, f"mixes rows of different shapes: {counts}")

    def summary(self) -> Mapping[str, Any]:
        return {"shapes": dict(sorted(self._rows.items()))}
