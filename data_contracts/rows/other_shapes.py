"""Rows in the shapes that other tools use: named in one sentence, and read as a conversation where their meaning is plain.

name_shape(row)   "is a ShareGPT row (conversations with from and value)", or None for a shape of the contract and for an unknown one
as_chat(row)      the same row as {"messages": ...}; raises ValueError with the reason where its meaning is not plain
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SPEAKERS = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant", "system": "system"}
_SPEAKERS |= {"developer": "system", "tool": "tool"}
#: (key of the question, key of the answer) where a row has these two.
_PAIRS: tuple[tuple[str, str], ...] = (
    ("instruction", "output"),
    ("instruction", "response"),
    ("prompt", "response"),
    ("prompt", "answer"),
    ("question", "answer"),
    ("question", "response"),
    ("query", "response"),
    ("input", "output"),
)
_LABELS = ("label", "labels", "target", "answer", "output", "response", "completion")
#: Beside a pair: what the question goes on with, what the row was rendered to, and what is no part of the text.
_CARRIED = ("id", "tools", "unmask")


def name_shape(row: Mapping[str, Any]) -> str | None:
    """What a row is that is not of one of the contract's shapes, as the end of the sentence "the row ..."."""
    if "conversations" in row or "conversation" in row:
        return "is a ShareGPT row (conversations with from and value)"
    if "chosen" in row or "rejected" in row:
        return "is preference data (chosen, rejected): a drop teaches one answer"
    if "messages" in row:
        return "has prompt beside messages: the messages are the conversation" if "prompt" in row or "completion" in row else None
    pair = _pair_of(row)
    if pair == ("instruction", "output"):
        return "is an Alpaca row (instruction, output)"
    if pair is not None:
        return f"is a row of {pair[0]} and {pair[1]}"
    if "text" in row and (label := _label_of(row)) is not None:
        return f"has {label} beside text: all of a document is learned, and the {label} would be lost"
    return None


def as_chat(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row as messages. Raises ValueError where it would have to be guessed what the row means."""
    if "chosen" in row or "rejected" in row:
        raise ValueError("is preference data (chosen, rejected): say which answer is to be learned")
    turns = row.get("conversations", row.get("conversation", row.get("messages")))
    if turns is not None:
        messages = _turns(turns)
        if isinstance(row.get("system"), str) and row["system"].strip():
            messages.insert(0, {"role": "system", "content": row["system"]})
        _check_beside(row, messages)
    elif isinstance(row.get("prompt"), list) and isinstance(row.get("completion"), list):
        messages = [*_turns(row["prompt"]), *_turns(row["completion"])]
    else:
        messages = _pair_as_turns(row)
    return {"messages": messages} | {name: row[name] for name in _CARRIED if row.get(name) is not None}


def _pair_of(row: Mapping[str, Any]) -> tuple[str, str] | None:
    if "prompt" in row and "completion" in row:
        return None
    return next((pair for pair in _PAIRS if pair[0] in row and pair[1] in row), None)


def _label_of(row: Mapping[str, Any]) -> str | None:
    return next((name for name in _LABELS if name in row), None)


def _turns(turns: Any) -> list[dict[str, Any]]:
    if not isinstance(turns, list) or not all(isinstance(turn, Mapping) for turn in turns):
        raise ValueError("has turns that are no list of objects")
    return [_turn(index, turn) for index, turn in enumerate(turns)]


def _turn(index: int, turn: Mapping[str, Any]) -> dict[str, Any]:
    named = turn.get("role", turn.get("from"))
    role = _SPEAKERS.get(named) if isinstance(named, str) else None
    if role is None:
        raise ValueError(f"turn {index} is of {str(named)[:40]!r}: expected {', '.join(_SPEAKERS)}")
    content = turn.get("content", turn.get("value"))
    if content is not None and not isinstance(content, (str, list)):
        raise ValueError(f"turn {index} has content that is not text")
    kept = {name: part for name, part in turn.items() if name not in ("from", "value", "role", "content")}
    return {"role": role, "content": content, **kept}


def _check_beside(row: Mapping[str, Any], messages: list[dict[str, Any]]) -> None:
    """A prompt or completion beside messages is left out only where the messages contain it."""
    said = {str(turn.get("content") or "").strip() for turn in messages}
    for name in ("prompt", "completion"):
        if name in row and (not isinstance(row[name], str) or row[name].strip() not in said):
            raise ValueError(f"has a {name} that is not in its messages: remove the one that is not meant")


def _pair_as_turns(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    pair = _pair_of(row)
    if row.get("history"):
        raise ValueError("has a history, which has no one form: write the turns as messages")
    if pair is None and "text" in row and (label := _label_of(row)) is not None:
        pair = ("text", label)
    if pair is None:
        raise ValueError(f"is in no known shape (it has {', '.join(name[:40] for name in sorted(row)[:5]) or 'no fields'})")
    question, answer = row[pair[0]], row[pair[1]]
    if not isinstance(question, str) or not isinstance(answer, str):
        wrong = pair[0] if not isinstance(question, str) else pair[1]
        raise ValueError(f"has a {wrong} that is no text ({row[wrong]!r:.40}): write it as the text that is to be learned")
    if pair[0] == "instruction" and isinstance(row.get("input"), str) and row["input"].strip():
        question = f"{question}\n\n{row['input']}"
    system = [{"role": "system", "content": row["system"]}] if isinstance(row.get("system"), str) and row["system"].strip() else []
    return [*system, {"role": "user", "content": question}, {"role": "assistant", "content": answer}]
