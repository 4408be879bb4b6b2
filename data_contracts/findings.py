"""What the checks say: a finding names its check, its line and its reason. Severity is policy, so it is decided elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from data_contracts.records import Row

Severity = Literal["error", "drop", "warning", "off"]

#: What each check means for a row unless the contract or the config says otherwise.
#: error: the row is refused and counts towards `max_bad_fraction`; drop: the row is left out with a note; warning: it stays.
DEFAULT_SEVERITY: dict[str, Severity] = {
    "encoding": "error",
    "json": "error",
    "schema": "error",
    "turns": "error",
    "empty_turn": "error",
    "row_count": "error",
    "exact_duplicate": "drop",
    "unknown_field": "warning",
    "mixed_shapes": "warning",
    "heldout_size": "warning",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that one check saw. Line 0 means the drop as a whole."""

    check: str
    line: int
    reason: str


class Check(Protocol):
    """Looks at every row once, in order; may have more to say when all rows are known."""

    def observe(self, row: Row, ordinal: int) -> Sequence[Finding]:
        """Findings about this row alone. `ordinal` counts the rows that could be read, from 0."""
        ...

    def conclude(self, alive: bytearray, lines: Sequence[int]) -> Iterable[tuple[int, Finding]]:
        """(ordinal, finding) in ascending order, for what only the whole drop shows; ordinal -1 is the drop itself.

        `alive[ordinal]` is 1 where no earlier check refused or dropped the row; `lines[ordinal]` is its physical line.
        """
        ...


class RowCheck:
    """Base of the checks that need one row at a time."""

    def conclude(self, alive: bytearray, lines: Sequence[int]) -> Iterator[tuple[int, Finding]]:
        return iter(())
