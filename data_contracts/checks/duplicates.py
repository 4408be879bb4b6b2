"""Exact duplicates within the drop: the same conversation twice, white space and Unicode spelling aside. The first one stays."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

import numpy as np

from data_contracts.findings import Finding
from data_contracts.records import Row, normal_text, text_key


class ExactDuplicates:
    """Keeps 8 bytes a row."""

    def __init__(self) -> None:
        self.keys = array("Q")

    def observe(self, row: Row, ordinal: int) -> list[Finding]:
        self.keys.append(text_key(normal_text(row.content_text()), "row"))
        return []

    def conclude(self, alive: bytearray, lines: Sequence[int]) -> Iterator[tuple[int, Finding]]:
        keys = np.frombuffer(self.keys, dtype=np.uint64)
        candidates = np.flatnonzero(np.frombuffer(bytes(alive), dtype=np.uint8)[: len(keys)])
        _, first, inverse = np.unique(keys[candidates], return_index=True, return_inverse=True)
        originals = candidates[first[inverse]]
        for ordinal, original in zip(candidates[candidates != originals], originals[candidates != originals], strict=True):
            yield int(ordinal), Finding("exact_duplicate", lines[ordinal], f"says the same as line {lines[original]}")
