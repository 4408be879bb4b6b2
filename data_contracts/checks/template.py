"""Does a row survive the model's own chat template, and does it smuggle in the template's own marks?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from data_contracts.findings import Batch, Finding, RowCheck
from data_contracts.records import Row

Conversation = Sequence[Mapping[str, Any]]


class ChatRenderer(Protocol):
    """The base model's own chat template and tokenizer, supplied by whoever has them. Rows come in batches: one at a time costs more
    than every other check together."""

    @property
    def max_tokens(self) -> int:
        """The longest conversation that training takes, in tokens."""
        ...

    def render(self, conversations: Sequence[Conversation]) -> Sequence[str | Exception]:
        """The text that the model sees of each conversation, or what the template raised: templates refuse in their own words."""
        ...

    def token_counts(self, texts: Sequence[str]) -> Sequence[int]:
        """Tokens of each rendered text; the template has already placed the special ones."""
        ...


#: Marks that structure a conversation in common templates. In a turn's text they would start a turn of their own.
_MARKS = re.compile(r"<\|[a-zA-Z_0-9]{2,30}\|>|\[/?INST\]|<</?SYS>>|</?s>(?=$|[\s<\[])|<(?:start|end)_of_turn>|<｜[^｜<>]{2,40}｜>")


class ControlTokens(RowCheck):
    """A turn that holds a template's own marks can end its turn early or speak for another role."""

    def observe_row(self, row: Row) -> Iterator[Finding]:
        for index, text in enumerate(row.texts()):
            if ("<" in text or "[" in text) and (mark := _MARKS.search(text)):
                place = "text" if row.shape == "document" else f"text {index + 1}"
                yield Finding("control_token", row.line, f"{place} holds {mark.group()!r}, which chat templates use as a mark")


class Template(RowCheck):
    """Renders every conversation. A template that refuses a row, or leaves its answer out, makes the row useless; a template that
    leaves an earlier turn out (some drop system turns or old reasoning) changes what the row teaches.

    What was rendered is counted at once; `tokens` hands the counts of the last batch on.
    """

    def __init__(self, renderer: ChatRenderer) -> None:
        self._renderer = renderer
        self._tokens: dict[int, int] = {}

    @property
    def max_tokens(self) -> int:
        return self._renderer.max_tokens

    def tokens(self, row: Row) -> int | None:
        """Tokens of a row of the last batch; None where the template refused it."""
        return self._tokens.get(row.line)

    def observe(self, batch: Batch) -> Iterator[tuple[int, Finding]]:
        rendered = self._renderer.render([row.messages or _as_turn(row) for row in batch.rows])
        texts = {row.line: text for row, text in zip(batch.rows, rendered, strict=True) if isinstance(text, str)}
        self._tokens = dict(zip(texts, self._renderer.token_counts(list(texts.values())), strict=True))
        for place, (row, text) in enumerate(zip(batch.rows, rendered, strict=True)):
            if isinstance(text, str):
                yield from ((place, finding) for finding in _left_out(row, text))
            elif row.shape != "document":
                yield place, Finding("template", row.line, f"the chat template refuses it: {_in_a_line(text)}")


def _as_turn(row: Row) -> Conversation:
    """A document as the one turn that a template can take, so that its length can be told."""
    return ({"role": "assistant", "content": row.value["text"]},)


def _in_a_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def _left_out(row: Row, rendered: str) -> Iterator[Finding]:
    """Turns whose text does not stand in the rendered one."""
    last = len(row.messages) - 1
    for index, turn in enumerate(row.messages):
        said = (turn.get("content") or "").strip()
        if turn["role"] != "tool" and said not in rendered:
            check = "template" if index == last else "template_change"
            yield Finding(check, row.line, f"the chat template leaves messages[{index}] ({turn['role']}) out or changes it")
