"""A row as text only, for the data contract: what the model would read of it, and what of the row it would not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from data_contracts.rendering.answers import AnswerText
from data_contracts.rendering.chat import REASONING, Chat, Message


@dataclass(frozen=True)
class Missing:
    """Something of a row that the chat template does not print. final: it is the last answer of the row."""

    what: str
    final: bool


@dataclass(frozen=True)
class RowText:
    """texts: the text of each example that the row becomes. missing: the parts of the row that are in none of them.

    ends: texts in the row's own words that the tokenizer reads as the end of an answer.
    """

    texts: tuple[str, ...]
    missing: tuple[Missing, ...] = ()
    ends: tuple[str, ...] = ()


def example_texts(answers: Sequence[AnswerText]) -> tuple[str, ...]:
    """The texts of a row's examples: an answer that another one's text begins with is part of that example."""
    found: list[str] = []
    hosts: list[str] = []
    for answer in reversed(answers):
        through = answer.context + answer.answer
        if not any(host.startswith(through) for host in hosts):
            hosts.append(through)
            found.append(through + answer.tail)
    return tuple(reversed(found))


def missing_parts(chat: Chat, printed: str, without_tools: str, answers: Sequence[AnswerText]) -> Iterator[Missing]:
    """`printed` is the complete conversation, `without_tools` the same without the row's tools."""
    if chat.tools and printed == without_tools:
        yield Missing("its tools", final=False)
    own = {answer.turn: answer.answer for answer in answers}
    last = len(chat.messages) - 1
    for index, message in enumerate(chat.messages):
        text = own.get(index, printed)
        if message["role"] != "tool" and str(message.get("content", "")).strip() not in text:
            yield Missing(f"messages[{index}] ({message['role']})", final=index == last)
        for name in _calls(message):
            if name not in text:
                yield Missing(f"the call of {name!r} in messages[{index}]", final=index in own)
        reasoning = next((str(message[name]) for name in REASONING if message.get(name)), "").strip()
        if index in own and reasoning and reasoning not in text:
            yield Missing(f"the reasoning of messages[{index}]", final=False)


def _calls(message: Message) -> Iterator[str]:
    for call in message.get("tool_calls", ()):
        yield str((call.get("function") or call)["name"])
