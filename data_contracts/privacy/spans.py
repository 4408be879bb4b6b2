"""Spans of sensitive text."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from data_contracts.rows.json_values import strings_of

#: Scripts that are written without spaces, or whose particles follow a number at once: a number or an address may touch their letters.
TOUCHING = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3131-\u318e\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
#: A letter, digit or underscore of any other script: what stands before or after it is part of it.
WORD = rf"[^\W{TOUCHING}]"
_OTHER_DIGIT = re.compile(r"(?![0-9])\d")
#: Forms of ASCII characters that keyboards of other scripts give, and the dashes and spaces of typography; each to one character.
_PLAIN = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2212\ufe63"), "-")
_PLAIN |= dict.fromkeys(map(ord, "\u00a0\u2007\u2009\u202f\u3000"), " ")


@dataclass(frozen=True, slots=True)
class Span:
    """text[start:end] is sensitive; `kind` names what it is, and is all that a report may show of it."""

    kind: str
    start: int
    end: int


def plain_forms(text: str) -> str:
    """The text with full-width characters and the digits of other scripts as ASCII. Every character keeps its place."""
    if text.isascii():
        return text
    return _OTHER_DIGIT.sub(lambda digit: str(unicodedata.decimal(digit.group())), text.translate(_PLAIN))


class Taken:
    """Which characters of a text a span has already; a look costs what the span is long, however many there are."""

    def __init__(self, length: int) -> None:
        self._marks = bytearray(length)

    def add(self, start: int, end: int) -> None:
        self._marks[start:end] = b"\x01" * (end - start)

    def free(self, start: int, end: int) -> bool:
        return self._marks.find(1, start, end) < 0


def spans_in_words(place: str, spans: Iterable[Span]) -> Iterator[str]:
    """One reason per kind, however often it occurs: a row of a thousand numbers is one row."""
    found = list(spans)
    for kind, count in Counter(span.kind for span in found).items():
        if count > 1:
            yield f"{place} holds {count} times a{'n' if kind[0] in 'aeiAEIO' else ''} {kind}"
        else:
            length = next(span.end - span.start for span in found if span.kind == kind)
            yield f"{place} holds a{'n' if kind[0] in 'aeiAEIO' else ''} {kind} ({length} characters)"


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
