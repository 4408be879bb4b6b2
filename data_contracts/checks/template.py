"""Does a row survive the model's own chat template, and does it smuggle in the template's own marks?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from data_contracts.findings import Finding, RowCheck
from data_contracts.records import Row


class ChatRenderer(Protocol):
    """The base model's own chat template and tokenizer, supplied by whoever has them."""

    @property
    def max_tokens(self) -> int:
        """The longest conversation that training takes, in tokens."""
        ...

    def render(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The text that the model sees. May raise anything: templates refuse conversations in their own words."""
        ...

    def token_count(self, messages: Sequence[Mapping[str, Any]]) -> int:
        """Tokens of the rendered conversation."""
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

    Tokens are counted right after a row is rendered, when a renderer still has its text; `taken_tokens` hands them on.
    """

    def __init__(self, renderer: ChatRenderer) -> None:
        self._renderer = renderer
        self._tokens: dict[int, int] = {}

    @property
    def max_tokens(self) -> int:
        return self._renderer.max_tokens

    def taken_tokens(self, row: Row) -> int | None:
        """Tokens of a row that was observed, once; None where the template refused it."""
        return self._tokens.pop(row.line, None)

    def observe_row(self, row: Row) -> Iterator[Finding]:
        messages = row.messages or ({"role": "assistant", "content": row.value["text"]},)
        try:
            rendered = self._renderer.render(messages)
            self._tokens[row.line] = self._renderer.token_count(messages)
        except Exception as error:  # a template raises what its author chose; the row is then at fault, not the program
            if row.shape == "document":
                return
            yield Finding(
                "template",
                row.line,
                f"the chat template refuses it: {str(error).splitlines()[0][:200] if str(error) else type(error).__name__}",
            )
            return
        last = len(row.messages) - 1
        for index, turn in enumerate(row.messages):
            said = (turn.get("content") or "").strip()
            if turn["role"] != "tool" and said not in rendered:
                check = "template" if index == last else "template_change"
                yield Finding(check, row.line, f"the chat template leaves messages[{index}] ({turn['role']}) out or changes it")
