"""Does the model's own chat template print a row, and does the row contain the template's own marks?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from data_contracts.errors import RenderingError
from data_contracts.rendering import RowText
from data_contracts.rows.findings import Batch, Finding, RowCheck
from data_contracts.rows.records import Row


class ChatRenderer(Protocol):
    """The base model's own chat template and tokenizer, supplied by the caller. Rows come in batches: one at a time costs more
    than every other check together."""

    @property
    def max_tokens(self) -> int:
        """The longest conversation that training takes, in tokens."""
        ...

    def render(self, rows: Sequence[Mapping[str, Any]]) -> Sequence[RowText | RenderingError]:
        """What the model sees of each row, or why it can see nothing of it."""
        ...

    def token_counts(self, texts: Sequence[str]) -> Sequence[int]:
        """Tokens of each rendered text; the template has already placed the special ones."""
        ...


#: Marks that structure a conversation in common templates. In a turn's text they would start a turn of their own.
_MARKS = re.compile(r"<\|[a-zA-Z_0-9]{2,30}\|>|\[/?INST\]|<</?SYS>>|</?s>(?=$|[\s<\[])|<(?:start|end)_of_turn>|<｜[^｜<>]{2,40}｜>")


class ControlTokens(RowCheck):
    """A turn that holds a template's own marks can end its turn early or begin a turn of another role."""

    def observe_row(self, row: Row) -> Iterator[Finding]:
        for index, text in enumerate(row.texts()):
            if ("<" in text or "[" in text) and (mark := _MARKS.search(text)):
                place = "text" if row.shape == "document" else f"text {index + 1}"
                yield Finding("control_token", row.line, f"{place} holds {mark.group()!r}, which chat templates use as a mark")


class Template(RowCheck):
    """Renders every row as training does. A template that refuses a row, or leaves its answer out, makes the row useless; a template that
    leaves an earlier turn, tools or reasoning out changes what the row teaches.

    What was rendered is counted at once; `tokens` hands the longest count of each row of the last batch on.
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
        rendered = self._renderer.render([row.value for row in batch.rows])
        texts = [(row.line, text) for row, each in zip(batch.rows, rendered, strict=True) for text in _texts(each)]
        self._tokens = {}
        for (line, _), count in zip(texts, self._renderer.token_counts([text for _, text in texts]), strict=True):
            self._tokens[line] = max(count, self._tokens.get(line, 0))
        for place, (row, each) in enumerate(zip(batch.rows, rendered, strict=True)):
            if isinstance(each, RowText):
                yield from ((place, finding) for finding in _left_out(row, each))
            else:
                yield place, Finding("template", row.line, " ".join(part for part in (each.where, each.what) if part))


def _texts(rendered: RowText | RenderingError) -> Sequence[str]:
    return rendered.texts if isinstance(rendered, RowText) else ()


def _left_out(row: Row, rendered: RowText) -> Iterator[Finding]:
    """The parts of the row that are in none of its texts, and ends of an answer in its own words."""
    for part in rendered.missing:
        check = "template" if part.final else "template_change"
        yield Finding(check, row.line, f"the chat template leaves {part.what} out or changes it")
    if rendered.ends and not any(_MARKS.search(text) for text in row.texts()):  # those are found without a tokenizer
        yield Finding("control_token", row.line, f"holds {rendered.ends[0]!r}, with which this model ends an answer")
