"""The fixed-size buffer: a uniform sample of all earlier rounds' examples that travels with the lineage.

Every row has a key drawn from its own text, and the rows with the smallest keys stay. That is a uniform sample without replacement of
everything ever offered, needs no count of it, and gives the same buffer whenever the same rounds are run again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_contracts.digests import canonical_json, text_digest
from data_contracts.manifests import write_atomically
from osft_engine.examples import read_rows


@dataclass(frozen=True)
class BufferRow:
    key: str
    skill: str
    row: dict[str, Any]


def load_buffer(path: Path) -> tuple[BufferRow, ...]:
    return tuple(BufferRow(str(row["key"]), str(row["skill"]), dict(row["row"])) for _, row in read_rows(path))


def save_buffer(rows: Sequence[BufferRow], path: Path) -> None:
    lines = (json.dumps({"key": each.key, "skill": each.skill, "row": each.row}, ensure_ascii=False, sort_keys=True) for each in rows)
    write_atomically(path, "".join(f"{line}\n" for line in lines))


def extend_buffer(rows: Sequence[BufferRow], new: Iterable[dict[str, Any]], *, skill: str, size: int, seed: int) -> tuple[BufferRow, ...]:
    """The buffer after a round offered its rows."""
    best = {each.key: each for each in rows}
    for row in new:
        kept: dict[str, Any] = {name: row[name] for name in ("messages", "text") if name in row}
        key = text_digest(f"{seed}\n{canonical_json(kept)}")
        best.setdefault(key, BufferRow(key, skill, kept))
    return tuple(best[key] for key in sorted(best)[:size])
