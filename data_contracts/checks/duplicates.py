"""Exact duplicates: the same conversation again, white space and Unicode spelling aside, in this drop or in an earlier round."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_contracts.matching.earlier_drops import EarlierDrop
from data_contracts.rows.findings import Batch, Finding, WholeDrop
from data_contracts.rows.records import normal_text, text_key
from data_contracts.rows.words import contains


class ExactDuplicates:
    """Keeps 8 bytes per row. The first of several equal rows stays."""

    def __init__(self, earlier: tuple[EarlierDrop, ...]) -> None:
        self._earlier = earlier
        self._keys = array("Q")
        self._within = self._across = 0

    @property
    def keys(self) -> NDArray[np.uint64]:
        """uint64[R]: the content key of every row that could be read."""
        return np.frombuffer(self._keys, dtype=np.uint64)

    def observe(self, batch: Batch) -> Iterator[tuple[int, Finding]]:
        self._keys.extend(text_key(normal_text(text), "row") for text in batch.contents)
        return iter(())

    def conclude(self, drop: WholeDrop) -> Iterator[tuple[int, Finding]]:
        seen: dict[int, str] = {}
        candidates = np.flatnonzero(np.frombuffer(drop.alive, dtype=np.uint8))
        for past in self._earlier:
            for ordinal in candidates[contains(past.sorted_keys, self.keys[candidates])]:
                seen.setdefault(int(ordinal), past.skill)
        _, first, inverse = np.unique(self.keys[candidates], return_index=True, return_inverse=True)
        originals = candidates[first[inverse]]
        repeated = candidates != originals
        twice = dict(zip(candidates[repeated].tolist(), originals[repeated].tolist(), strict=True))
        for ordinal in sorted({*seen, *twice}):
            line = drop.lines[ordinal]
            if ordinal in seen:
                self._across += 1
                yield ordinal, Finding("seen_before", line, f"says the same as a row of the earlier skill {seen[ordinal]!r}")
            else:
                self._within += 1
                yield ordinal, Finding("exact_duplicate", line, f"says the same as line {drop.lines[twice[ordinal]]}")

    def summary(self) -> Mapping[str, Any]:
        return {"exact_duplicates": {"within": self._within, "earlier": self._across}}
