"""Each answer of a conversation as text: the prompt, what the model has to answer, and how the answer ends.

The prompt is the template's generation prompt after the turns before the answer, as every server prints it. The answer is what the
template prints there once it is known. Where the two do not fit together (a prompt that opens or closes a
reasoning block that the printed turn lacks), the answer's own text is set behind the prompt: training and evaluation see one text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_contracts.errors import RenderingError
from data_contracts.rendering.chat import REASONING, Chat, Message
from data_contracts.rendering.facts import MARK, Closing, TemplateFacts, last_mark_end, opened_block
from data_contracts.rendering.template import ChatTemplate

_FOUND = "give a chat template that prints every turn once"
_BLOCK = re.compile(r"\s*<(\w+)>.*?</\1>", re.DOTALL)


@dataclass(frozen=True)
class AnswerText:
    """context + answer is what is learned of messages[turn]; `end` is the last part of the answer, `tail` what is printed after it.

    fits: whether the template prints all of the turn after its own generation prompt.
    """

    turn: int
    context: str
    answer: str
    end: str
    tail: str
    fits: bool

    @property
    def said(self) -> str:
        """The answer without its end."""
        return self.answer[: len(self.answer) - len(self.end)]


def answer_text(template: ChatTemplate, facts: TemplateFacts, chat: Chat, index: int) -> AnswerText:
    """The answer messages[index]. Raises RenderingError where the template refuses the turns, or does not print this one."""
    before, turn = chat.messages[:index], chat.messages[index]
    context = question_text(template, facts, before, chat.tools)
    printed = template.text([*before, turn], chat.tools)
    fits = printed.startswith(context)
    if fits:
        words, closing = _closed(template, facts, chat, index, printed[len(context) :])
    else:
        words, closing = _printed_elsewhere(template, facts, chat, index)
    if not words.strip() and says_something(turn):
        raise RenderingError(f"messages[{index}]", "is not printed by the chat template", _FOUND)
    if not fits:
        words = _in_open_block(context, turn, index) + words
    return AnswerText(index, context, words + closing.end, closing.end, closing.tail, fits)


def says_something(turn: Message) -> bool:
    return bool(turn.get("tool_calls")) or bool(str(turn.get("content", "")).strip())


def question_text(
    template: ChatTemplate, facts: TemplateFacts, before: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None
) -> str:
    """The prompt after these turns."""
    asked = template.text(before, tools, prompt=True) if before else ""
    if before and facts.has_prompt:
        return asked
    # The template has no generation prompt: a header that it prints before an answer belongs to the question all the same.
    head = _head(template, before, tools)
    return head if head is not None and head.startswith(asked) and head[len(asked) :].strip() else asked


def _head(template: ChatTemplate, before: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None) -> str | None:
    """What the template prints before the words of an answer."""
    head, found, _ = template.text([*before, {"role": "assistant", "content": MARK}], tools).partition(MARK)
    return head if found else None


def _closed(template: ChatTemplate, facts: TemplateFacts, chat: Chat, index: int, rest: str) -> tuple[str, Closing]:
    """(the words, how they are closed) of what is printed after the context."""
    usual = facts.closing_with_tools if chat.tools else facts.closing
    if usual is not None and usual.added:
        return rest, usual
    if usual is not None and rest.endswith(usual.text):
        return rest[: len(rest) - len(usual.text)], usual
    turn = chat.messages[index]
    if turn.get("content") and not turn.get("tool_calls"):  # a call stands behind the words, and is part of the answer
        marked = {**turn, "content": MARK}
        _, found, after = template.text([*chat.messages[:index], marked], chat.tools).partition(MARK)
        if found and rest.endswith(after):
            return rest[: len(rest) - len(after)], facts.split(after)
    end = last_mark_end(rest, facts.marks)
    if end is not None and not rest[end:].strip():
        start = max(at for mark in facts.marks if (at := rest.rfind(mark)) >= 0 and at + len(mark) == end)
        return rest[:start], Closing(rest[start:end], rest[end:])
    return rest, Closing("", "")


def _printed_elsewhere(template: ChatTemplate, facts: TemplateFacts, chat: Chat, index: int) -> tuple[str, Closing]:
    """(words, closing) where the printed turn does not begin with the generation prompt: found behind what stands before its words."""
    before, turn = chat.messages[:index], chat.messages[index]
    plain = {name: value for name, value in turn.items() if name not in REASONING}
    printed = template.text([*before, plain], chat.tools)
    head = _head(template, before, chat.tools)
    if head is None or not printed.startswith(head):
        raise RenderingError(f"messages[{index}]", *_why_not_found(head or "", str(turn.get("content", ""))))
    return _closed(template, facts, chat, index, printed[len(head) :])


def _why_not_found(head: str, content: str) -> tuple[str, str]:
    """(what, way out) where the words of an answer do not stand behind what the template prints before one."""
    block = _BLOCK.match(content)
    if block is None or not head.rstrip().endswith(f"</{block[1]}>"):
        return "cannot be found in the rendered chat template", _FOUND
    what = f"has reasoning in its content (<{block[1]}>), which the generation prompt has closed already, as under enable_thinking: false"
    return what, f"leave the text up to </{block[1]}> out of the content, or enable_thinking out of train.chat_template_kwargs"


def _in_open_block(context: str, turn: Message, index: int) -> str:
    """Reasoning and what closes it, where the generation prompt opens a reasoning block that the printed turn lacks.

    Raises RenderingError for reasoning in the content: the template leaves it out, and an empty block would teach not to reason.
    """
    block = opened_block(context)
    reasoning = next((str(turn[name]) for name in REASONING if turn.get(name)), "")
    if block and not reasoning and f"</{block}>" in str(turn.get("content", "")):
        what = f"has reasoning in its content (<{block}>), which the chat template leaves out"
        raise RenderingError(f"messages[{index}]", what, f"write the text up to </{block}> as the turn's reasoning_content")
    return f"{reasoning}\n</{block}>\n\n" if block else ""
