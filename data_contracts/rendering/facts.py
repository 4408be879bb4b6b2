"""What is known of a template without a row: how an answer ends, whether it has a generation prompt, how it marks reasoning.

Found by printing conversations with markers in them; nothing is assumed of names of tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from data_contracts.errors import RenderingError
from data_contracts.rendering.chat import Message
from data_contracts.rendering.template import ChatTemplate

MARK, SECOND_MARK = "\u2402skillstack-answer\u2403", "\u2402skillstack-reasoning\u2403"
_OPEN_BLOCK = re.compile(r"<(\w+)>\s*$")  # <think>; a role's header has other brackets
_QUESTION: Message = {"role": "user", "content": "Hello"}
#: Where a model brings several templates, rows with tools are printed by one of their own.
_TOOLS = ({"type": "function", "function": {"name": "look", "description": "Look", "parameters": {"type": "object", "properties": {}}}},)
Tools = Sequence[Mapping[str, Any]] | None


@dataclass(frozen=True)
class Closing:
    """What stands after the words of an answer. end: what ends it (learned); tail: what follows (never learned).

    added: the template prints nothing there, and `end` is set behind the words for it.
    """

    end: str
    tail: str
    added: bool = False

    @property
    def text(self) -> str:
        return self.end + self.tail


class TemplateFacts:
    """Computed when first used, once per template."""

    def __init__(self, template: ChatTemplate, tokenizer: Any) -> None:
        self._template, self._tokenizer = template, tokenizer

    @cached_property
    def marks(self) -> tuple[str, ...]:
        """Texts of the tokens that are never made of others: the special ones, and what was added by hand."""
        added = (str(token) for token in getattr(self._tokenizer, "added_tokens_decoder", {}).values())
        return tuple(mark for mark in dict.fromkeys((*self._tokenizer.all_special_tokens, *added)) if mark.strip())

    @cached_property
    def has_prompt(self) -> bool:
        """Whether the template prints something for the model to answer after (an assistant's header)."""
        try:
            return self._template.text([_QUESTION], prompt=True) != self._template.text([_QUESTION])
        except RenderingError:
            return True

    @cached_property
    def closing(self) -> Closing | None:
        """How the last turn of a conversation is closed; None where the template refuses a question with an answer."""
        return self._closing(None)

    @cached_property
    def closing_with_tools(self) -> Closing | None:
        """The same of a conversation with tools; None also where the template refuses those."""
        return self._closing(_TOOLS)

    def _closing(self, tools: Tools) -> Closing | None:
        try:
            printed = self._template.text([_QUESTION, {"role": "assistant", "content": MARK}], tools)
        except RenderingError:
            return None
        _, found, after = printed.partition(MARK)
        return self.split(after) if found else None

    def split(self, after: str) -> Closing:
        """End and tail of what stands after an answer's words: the end reaches to its first special token, or else over all of it.

        Where the template prints nothing at all, the tokenizer's end of sequence is the end, or an answer could not end.
        """
        if not after:
            return Closing(self.end_of_sequence, "", added=True)
        end = first_mark_end(after, self.marks)
        return Closing(after, "") if end is None else Closing(after[:end], after[end:])

    def end_mark(self, end: str) -> str:
        """The special token that a text ends with; empty where it ends otherwise."""
        return max((mark for mark in self.marks if end.endswith(mark)), key=len, default="")

    @cached_property
    def end_marks(self) -> tuple[str, ...]:
        """The special tokens that end answers: of words and of calls, beside tools and without, and the tokenizer's end of sequence."""
        closings = [closing.end for closing in (self.closing, self.closing_with_tools) if closing is not None]
        found = [*map(self.end_mark, closings), self.call_end, self._call_end(_TOOLS), self.end_of_sequence]
        return tuple(mark for mark in dict.fromkeys(found) if mark)

    @cached_property
    def call_end(self) -> str:
        """The special token that ends a turn with a call, which some templates end otherwise; empty where the template prints no calls."""
        return self._call_end(None)

    def _call_end(self, tools: Tools) -> str:
        call = {"id": "call00000", "type": "function", "function": {"name": SECOND_MARK, "arguments": {}}}
        try:
            printed = self._template.text([_QUESTION, {"role": "assistant", "tool_calls": [call]}], tools)
        except RenderingError:
            return ""
        after = printed.partition(SECOND_MARK)[2]
        end = last_mark_end(after, self.marks)
        closed = end is not None and not after[end:].strip()
        return self.end_mark(after[:end]) if closed else ""

    @property
    def end_of_sequence(self) -> str:
        return str(self._tokenizer.eos_token or "")

    @cached_property
    def reasoning(self) -> tuple[str, str] | None:
        """(what stands before reasoning, what closes it before the answer's words); None where the template prints no reasoning.

        Where words without reasoning have a header of their own, which ends what closes reasoning too (Harmony's final channel), it is
        that header: behind it stand the words of every answer, whether it reasoned or not.
        Templates of the DeepSeek-R1 kind print none of a finished turn, and open its block in the generation prompt.
        """
        turn = {"role": "assistant", "reasoning_content": SECOND_MARK, "reasoning": SECOND_MARK, "thinking": SECOND_MARK, "content": MARK}
        try:
            printed = self._template.text([_QUESTION, turn])
            asked = self._template.text([_QUESTION], prompt=True)
        except RenderingError:
            return None
        before, found, after = printed.partition(SECOND_MARK)
        between, content, _ = after.partition(MARK)
        if not found or not content or not between.strip():
            block = opened_block(asked)
            return (f"<{block}>", f"</{block}>") if block else None
        opening = before[len(asked) :] if before.startswith(asked) else before.rpartition("\n")[2] or before[-20:]
        header, closing = self._words_header(asked), between.strip()
        return opening.strip(), header if header and closing.endswith(header) else closing

    def _words_header(self, asked: str) -> str:
        """What the template prints between its generation prompt and the words of an answer without reasoning."""
        printed, found, _ = self._template.text([_QUESTION, {"role": "assistant", "content": MARK}]).partition(MARK)
        return printed[len(asked) :].strip() if found and printed.startswith(asked) else ""


def opened_block(context: str) -> str:
    """The name of the block that a text ends by opening, such as think; empty where it opens none."""
    opened = _OPEN_BLOCK.search(context)
    return opened.group(1) if opened else ""


def first_mark_end(text: str, marks: Iterable[str]) -> int | None:
    """Where the first of these marks in a text ends; None where it holds none."""
    found = [(at, -len(mark)) for mark in marks if (at := text.find(mark)) >= 0]
    if not found:
        return None
    at, length = min(found)
    return at - length


def last_mark_end(text: str, marks: Iterable[str]) -> int | None:
    """Where the last of these marks in a text ends; None where it holds none."""
    return max((at + len(mark) for mark in marks if (at := text.rfind(mark)) >= 0), default=None)
