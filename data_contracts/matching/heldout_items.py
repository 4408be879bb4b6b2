"""The items of a suite or of a held-out file, as what a training row may not give away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_contracts.errors import DropError
from data_contracts.rows.jsonl import read_lines
from data_contracts.rows.taught import answer_text, joined_text


@dataclass(frozen=True)
class HeldoutItem:
    """One item of a suite: its question as the pieces a model sees, and its gold answer.

    turns: all that is said in a conversation of several questions, the answer last; empty for other items.
    """

    suite: str
    line: int
    questions: tuple[str, ...]
    answer: str = ""
    turns: tuple[str, ...] = ()


def read_suite(path: Path, *, max_line_bytes: int) -> list[HeldoutItem]:
    """The items of a suite's JSONL file. Raises DropError where it cannot be read, is empty, or an item has no text."""
    name = f"{path.parent.name}/{path.stem}"
    items = []
    for line in read_lines(path, max_line_bytes=max_line_bytes):
        where = f"{path}:{line.number}"
        if line.fault is not None or line.value is None:
            raise DropError(
                where, f"the suite cannot be checked for contamination: {line.fault[1] if line.fault else 'no object'}", "correct the suite"
            )
        item = heldout_item(name, line.number, line.value)
        if not item.questions:
            raise DropError(
                where, "the suite cannot be checked for contamination: the item has no prompt, text or messages", "correct the suite"
            )
        items.append(item)
    if not items:
        raise DropError(str(path), "the suite cannot be checked for contamination: it has no items", "give the suite's JSONL file")
    return items


def heldout_item(suite: str, line: int, value: Mapping[str, Any]) -> HeldoutItem:
    """An item of any of the shapes that suites come in."""
    questions, answer = item_texts(value)
    # Rows are compared by their words: without the call that it ends with, a conversation would be found in a row with another call.
    complete = len(questions) > 1 and bool(_words(value["messages"][-1]).strip())
    return HeldoutItem(suite, line, questions, answer, _turns(value["messages"]) if complete and answer.strip() else ())


def _turns(messages: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """What is said, piece by piece as a row's own texts are, without what the system is told."""
    spoken = [turn for turn in messages if isinstance(turn, Mapping) and turn.get("role") != "system"]
    said = ((turn.get("reasoning_content"), _words(turn)) for turn in spoken)
    return tuple(text for texts in said for text in texts if isinstance(text, str) and text)


def _words(turn: Any) -> str:
    text = joined_text(turn.get("content")) if isinstance(turn, Mapping) else None
    return text if isinstance(text, str) else ""


def item_texts(value: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
    """(question pieces, gold answer) of an item of any of the shapes that suites come in."""
    messages = value.get("messages")
    if isinstance(messages, list):
        turns = [turn for turn in messages if isinstance(turn, Mapping)]
        asked = (joined_text(turn.get("content")) for turn in turns if turn.get("role") == "user")
        said = answer_text(turns[-1]) if turns and turns[-1].get("role") == "assistant" else ""
        return tuple(text for text in asked if isinstance(text, str)), said
    for name in ("prompt", "question", "text", "query"):
        if isinstance(value.get(name), str) and value[name].strip():
            choices, gold, answer = value.get("choices"), value.get("gold"), value.get("answer")
            if isinstance(choices, list) and type(gold) is int and 0 <= gold < len(choices):
                answer = choices[gold]
            return (value[name],), answer if isinstance(answer, str) else ""
    return (), ""
