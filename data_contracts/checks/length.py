"""How long the rows are, in the model's tokens where a tokenizer is at hand and in words where it is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_contracts.checks.template import Template
from data_contracts.rows.findings import Batch, Finding, WholeDrop

#: Where the bins of the histogram begin: 8 bins double the length, so it stays small for any drop (the last begins at 2**32).
_EDGES = 2.0 ** (np.arange(8 * 32 + 1) / 8)


class Length:
    """Says which rows training would cut, and keeps the histogram for the report."""

    def __init__(self, template: Template | None) -> None:
        self._template = template
        self._bins: Counter[int] = Counter()
        self._longest = self._total = self._rows = self._cut = 0

    def observe(self, batch: Batch) -> Iterator[tuple[int, Finding]]:
        lengths = np.diff(batch.words.rows) if self._template is None else self._token_lengths(self._template, batch)
        if self._template is not None:
            for place in np.flatnonzero(lengths > self._template.max_tokens).tolist():
                self._cut += 1
                reason = f"has {lengths[place]} tokens: training takes {self._template.max_tokens}"
                yield place, Finding("too_long", batch.rows[place].line, reason)
        known = lengths[lengths >= 0]
        if len(known):
            self._bins.update((np.searchsorted(_EDGES, np.maximum(known, 1), side="right") - 1).tolist())
            self._longest, self._total = max(self._longest, int(known.max())), self._total + int(known.sum())
            self._rows += len(known)

    @staticmethod
    def _token_lengths(template: Template, batch: Batch) -> NDArray[np.int64]:
        """int64[rows]; -1 where the template refused the row."""
        counts = (template.tokens(row) for row in batch.rows)
        return np.array([-1 if count is None else count for count in counts], np.int64)

    def conclude(self, drop: WholeDrop) -> Iterator[tuple[int, Finding]]:
        return iter(())

    def summary(self) -> Mapping[str, Any]:
        edges = [round(float(edge), 1) for edge in _EDGES]
        bins = [{"from": edges[place], "to": edges[place + 1], "rows": n} for place, n in sorted(self._bins.items())]
        unit = "tokens" if self._template is not None else "words"
        mean = round(self._total / self._rows, 1) if self._rows else 0.0
        limit = self._template.max_tokens if self._template is not None else None
        return {"length": {"unit": unit, "mean": mean, "longest": self._longest, "limit": limit, "over_limit": self._cut, "bins": bins}}
