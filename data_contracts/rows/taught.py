"""What a row teaches beside its words: which turn is its answer, what that answer says and calls, and what holds for the row as a whole.

answer_of     the place of the answer: the last turn, or the last one before it that is learned where the last has weight 0
answer_text   words and calls of a turn as one text: two answers are the same where these are
framing       tools, `unmask` and turns of weight 0: rows that differ there teach different things with the same words
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

Turn = Mapping[str, Any]


def is_context(turn: Turn) -> bool:
    """Whether a turn is an answer that is not learned. What others say is never learned, whatever its weight."""
    return turn.get("role") == "assistant" and turn.get("weight") == 0


def answer_of(messages: Sequence[Turn]) -> int:
    """The place of the last answer that is learned; that of the last turn where none is."""
    last = len(messages) - 1
    return next((place for place in range(last, -1, -1) if _is_answer(messages, place, last)), last)


def _is_answer(messages: Sequence[Turn], place: int, last: int) -> bool:
    return not is_context(messages[place]) and (place == last or messages[place].get("role") == "assistant")


def answer_text(turn: Turn) -> str:
    """What a turn says, then a line for each of its calls. Neither a call's id, new in every row, nor the spelling of arguments counts."""
    said, calls = joined_text(turn.get("content")), turn.get("tool_calls")
    parts = [said if isinstance(said, str) else "", *(map(_call_text, calls) if isinstance(calls, list) else ())]
    return "\n".join(filter(None, parts))


def _call_text(call: Any) -> str:
    function = call.get("function") if isinstance(call, Mapping) else None
    target = function if isinstance(function, Mapping) else call
    if not isinstance(target, Mapping) or not isinstance(target.get("name"), str):
        return ""
    arguments = target.get("arguments")
    if isinstance(arguments, str) and arguments.strip():
        with suppress(ValueError, RecursionError):
            arguments = json.loads(arguments)
    return f"{target['name']} {json.dumps(arguments or {}, sort_keys=True, ensure_ascii=False)}"


def joined_text(content: Any) -> Any:
    """The text that a content of text parts makes; any other content as it is."""
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        texts = [part.get("text") for part in content]
        if all(isinstance(text, str) for text in texts):
            return "".join(texts)
    return content


def framing(value: Mapping[str, Any]) -> str:
    """One text for what a row in normal form holds beside its turns' words; empty for a row that says nothing else than most do."""
    if "text" in value:
        return ""
    found: dict[str, Any] = {name: value[name] for name in ("tools", "unmask") if value.get(name)}
    if context := [place for place, turn in enumerate(value["messages"]) if is_context(turn)]:
        found["context"] = context
    return json.dumps(found, sort_keys=True, ensure_ascii=False) if found else ""
