"""How long the rows are, in the model's tokens where a tokenizer is at hand and in words where it is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from data_contracts.checks.template import Template
from data_contracts.findings import Batch, Finding, WholeDrop

#: Lengths are counted in bins of this ratio: 8 bins double the length, so the histogram stays small for any drop.
_RATIO = 2.0 ** (1 / 8)


class Length:
    """Says which rows training would cut, and keeps the histogram for the report."""

    def __init__(self, template: Template | None) -> None:
        self._template = template
        self._bins: Counter[int] = Counter()
        self._longest = self._total = self._rows = self._cut = 0

    def observe(self, batch: Batch) -> Iterator[tuple[int, Finding]]:
        words = np.diff(batch.words.rows)
        for place, row in enumerate(batch.rows):
            length = int(words[place]) if self._template is None else self._template.taken_tokens(row)
            if length is None:
                continue
            if self._template is not None and length > self._template.max_tokens:
                self._cut += 1
                yield place, Finding("too_long", row.line, f"has {length} tokens: training takes {self._template.max_tokens}")
            self._bins[int(np.log(max(length, 1)) / np.log(_RATIO))] += 1
            self._longest, self._total, self._rows = max(self._longest, length), self._total + length, self._rows + 1

    def conclude(self, drop: WholeDrop) -> Iterator[tuple[int, Finding]]:
        return iter(())

    def summary(self) -> Mapping[str, Any]:
        bins = [
            {"from": round(_RATIO**place, 1), "to": round(_RATIO ** (place + 1), 1), "rows": n} for place, n in sorted(self._bins.items())
        ]
        unit = "tokens" if self._template is not None else "words"
        mean = round(self._total / self._rows, 1) if self._rows else 0.0
        limit = self._template.max_tokens if self._template is not None else None
        return {"length": {"unit": unit, "mean": mean, "longest": self._longest, "limit": limit, "over_limit": self._cut, "bins": bins}}
