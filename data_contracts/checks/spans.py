"""Where in a text something sensitive lies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from data_contracts.json_values import strings_of


@dataclass(frozen=True, slots=True)
class Span:
    """text[start:end] is sensitive; `kind` says what it is, and is all that a report may show of it."""

    kind: str
    start: int
    end: int


def searchable(value: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(place, text) for every text of a row in normal form that a model could learn from or that could leak."""
    for index, turn in enumerate(value.get("messages", ())):
        if len(turn) == 2 and "content" in turn:
            yield f"messages[{index}].content", turn["content"]
            continue
        for name, part in turn.items():
            if name == "role":
                continue
            if isinstance(part, str):
                yield f"messages[{index}].{name}", part
            else:
                yield from ((f"messages[{index}].{name}", text) for text in strings_of(part))
    for name in ("text", "id", "tools"):
        if name in value:
            yield from ((name, text) for text in strings_of(value[name]))
