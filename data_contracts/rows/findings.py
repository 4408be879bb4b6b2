"""What the checks report, and what a check is. What a finding means for its row (its severity) is policy: see contract/."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

from data_contracts.rows.records import Row
from data_contracts.rows.words import WordBatch, word_batch

#: error: the row is refused and counts towards `max_bad_fraction`; drop: it is left out with a note; warning: it stays.
Severity = Literal["error", "drop", "warning", "off"]
SEVERITIES: tuple[Severity, ...] = ("error", "drop", "warning", "off")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that one check found. Line 0 means the drop, not a row."""

    check: str
    line: int
    reason: str


@dataclass
class Batch:
    """Rows that are looked at together. `first` is the ordinal of the first: rows that could be read are counted from 0."""

    rows: Sequence[Row]
    first: int

    @cached_property
    def words(self) -> WordBatch:
        """The words of every turn or document, computed once for all checks."""
        return word_batch([row.texts() for row in self.rows])

    @cached_property
    def contents(self) -> list[str]:
        """Every row as one text, roles included."""
        return [row.content_text() for row in self.rows]


@dataclass(frozen=True)
class WholeDrop:
    """What a check can use when all rows are known.

    `alive[ordinal]` is 1 where no earlier check refused or dropped the row, `lines[ordinal]` its physical line,
    `value(ordinal)` the row itself, read back from disk.
    """

    alive: bytearray
    lines: Sequence[int]
    value: Callable[[int], Mapping[str, Any]]


class Check(Protocol):
    """Looks at every row once, in order; may have more to say when all rows are known."""

    def observe(self, batch: Batch) -> Iterable[tuple[int, Finding]]:
        """(place in the batch, finding) for what these rows alone show."""
        ...

    def conclude(self, drop: WholeDrop) -> Iterable[tuple[int, Finding]]:
        """(ordinal, finding) in ascending order, for what only all rows together show; ordinal -1 is the drop itself."""
        ...

    def summary(self) -> Mapping[str, Any]:
        """Numbers for the report, by name; JSON values only."""
        ...


class RowCheck:
    """Base of the checks that look at one row at a time."""

    def observe_row(self, row: Row) -> Iterable[Finding]:
        raise NotImplementedError

    def observe(self, batch: Batch) -> Iterable[tuple[int, Finding]]:
        for place, row in enumerate(batch.rows):
            for finding in self.observe_row(row):
                yield place, finding

    def conclude(self, drop: WholeDrop) -> Iterable[tuple[int, Finding]]:
        return ()

    def summary(self) -> Mapping[str, Any]:
        return {}
