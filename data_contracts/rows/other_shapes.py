"""Rows in the shapes that other tools use: named in one sentence, and read as a conversation where their meaning is plain.

name_shape(row)   "is a ShareGPT row (conversations with from and value)", or None for a shape of the contract and for an unknown one
as_chat(row)      the same row as {"messages": ...}; raises ValueError with the reason where its meaning is not plain, or would be lost

Beside its turns a row may hold metadata, itself once more as it was rendered, or a part of the question. Only the first two may be left
out, and a name alone does not make it metadata: the `source` of a summary is the text that is summed up, so metadata is short.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_contracts.rows.json_values import strings_of
from data_contracts.rows.taught import joined_text

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
#: What is written on as it is, beside the messages.
_CARRIED = ("id", "tools", "unmask")
_CONVERSATIONS, _SYSTEMS = ("conversations", "conversation", "messages"), ("system", "system_prompt")
#: What an instruction goes on with: Alpaca's input, Dolly's context.
_CONTINUED = ("input", "context")

#: Names of what says something about a row. What may be part of a question is not among them (title, topic, subject, task, date, url).
_NAMES = (
    "id idx index uid uuid guid hash md5 sha256 source sources dataset dataset_name data_source license licence split fold category "
    "categories domain difficulty score scores rating quality language lang locale tag tags created_at updated_at timestamp version model "
    "model_name generator num_tokens token_count meta metadata __index_level_0__"
)
_METADATA = frozenset(_NAMES.split())
_NUMBERING = re.compile(r".*_(?:id|idx|index|uuid|hash)|unnamed:_\d+")
#: A text with more words is prose, whatever its field is called.
_MOST_WORDS = 12
#: Where tools keep a row as the one text that it was rendered to.
_RENDERED = ("text", "prompt")


@dataclass(frozen=True)
class AsChat:
    """A row as messages. left_out: its fields that are no part of the conversation, such as its source."""

    value: dict[str, Any]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class _Read:
    """The turns of a row, the names of the fields that they were made of, and the texts that stood there."""

    messages: list[dict[str, Any]]
    used: tuple[str, ...]
    texts: tuple[str, ...]


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


def as_chat(row: Mapping[str, Any]) -> AsChat:
    """The row as messages. Raises ValueError where it would have to be guessed what the row means, or where a part of it would be lost."""
    if "chosen" in row or "rejected" in row:
        raise ValueError("is preference data (chosen, rejected): say which answer is to be learned")
    read = _read(row)
    messages = _with_system(row, read.messages)
    beside = {name: part for name, part in row.items() if name not in (*read.used, *_SYSTEMS, *_CARRIED) and not _is_empty(part)}
    left_out = tuple(name for name, part in beside.items() if _is_metadata(name, part) or _is_rendering(name, part, read.texts))
    lost = {name: part for name, part in beside.items() if name not in left_out}
    if lost and name_shape(row) is not None:  # fields of a row in the contract's own shape go on: validation names them
        raise ValueError(_would_be_lost(list(lost), read))
    carried = {name: row[name] for name in _CARRIED if row.get(name) is not None}
    return AsChat({"messages": messages} | carried | lost, left_out)


def _would_be_lost(lost: Sequence[str], read: _Read) -> str:
    named = _listed([name[:40] for name in lost[:5]]) + (f" and {len(lost) - 5} more fields" if len(lost) > 5 else "")
    place = "the turn that it belongs to" if read.used[0] in _CONVERSATIONS else read.used[0]
    it = "it" if len(lost) == 1 else "them"
    return f"has {named} beside {_listed(read.used[:2])}, which would be lost: write {it} into {place}, or remove {it}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _read(row: Mapping[str, Any]) -> _Read:
    """The turns of a row, wherever they stand."""
    name = next((name for name in _CONVERSATIONS if row.get(name) is not None), None)
    if name is not None:
        messages = _turns(row[name])
        _check_beside(row, messages)
        return _Read(messages, (name, *(other for other in ("prompt", "completion") if other in row)), tuple(_texts(messages)))
    if isinstance(row.get("prompt"), list) and isinstance(row.get("completion"), list):
        messages = [*_turns(row["prompt"]), *_turns(row["completion"])]
        return _Read(messages, ("prompt", "completion"), tuple(_texts(messages)))
    return _pair_as_turns(row)


def _texts(messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield from (text for turn in messages if isinstance(text := joined_text(turn.get("content")), str))


def _with_system(row: Mapping[str, Any], messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A system prompt beside the turns is the first of them."""
    given = [(name, row[name]) for name in _SYSTEMS if not _is_empty(row.get(name))]
    for name, text in given:
        if not isinstance(text, str):
            raise ValueError(f"has a {name} that is no text ({text!r:.40}): write it as text")
    own = list(_texts([turn for turn in messages[:1] if turn["role"] == "system"]))
    if len({text.strip() for text in (*own, *(text for _, text in given))}) > 1:
        named = [name for name, _ in given] + ["its first turn"] * len(own)
        raise ValueError(f"has two system prompts ({_listed(named)}): keep the one that is meant")
    return [{"role": "system", "content": given[0][1]}, *messages] if given and not own else messages


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
    if not _is_empty(turn.get("content")) and not _is_empty(turn.get("value")):
        raise ValueError(f"turn {index} has both content and value: keep the one that is meant")
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


def _pair_as_turns(row: Mapping[str, Any]) -> _Read:
    pair = _pair_of(row)
    if row.get("history"):
        raise ValueError("has a history, which has no one form: write the turns as messages")
    if pair is None and "text" in row and (label := _label_of(row)) is not None:
        pair = ("text", label)
    if pair is None:
        raise ValueError(f"is in no known shape (it has {', '.join(name[:40] for name in sorted(row)[:5]) or 'no fields'})")
    more = tuple(name for name in _CONTINUED if pair[0] == "instruction" and not _is_empty(row.get(name)))
    if len(more) > 1:
        raise ValueError(f"has {_listed(more)} beside instruction: keep the one that the instruction goes on with")
    for name in (*pair, *more):
        if not isinstance(row[name], str):
            raise ValueError(f"has a {name} that is no text ({row[name]!r:.40}): write it as the text that is to be learned")
    asked = [row[name] for name in (pair[0], *more)]
    question = "\n\n".join(text for text in asked if text.strip()) if more else asked[0]
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": row[pair[1]]}]
    return _Read(turns, (*pair, *more), (*asked, row[pair[1]]))


def _is_empty(value: Any) -> bool:
    """Whether a field holds nothing that could be lost. 0 and false are something."""
    return value is None or value in ([], {}) or (isinstance(value, str) and not value.strip())


def _is_metadata(name: str, value: Any) -> bool:
    """Whether a field says something about its row and is no part of the question or the answer."""
    plain = re.sub(r"[\s-]", "_", name.strip().lower())
    named = plain in _METADATA or _NUMBERING.fullmatch(plain) is not None
    return named and all(len(text.split()) <= _MOST_WORDS for text in strings_of(value))


def _is_rendering(name: str, value: Any, texts: Sequence[str]) -> bool:
    """Whether a field is the row once more, as one text that holds all of its parts (Alpaca's `text`)."""
    return name in _RENDERED and isinstance(value, str) and all(text.strip() in value for text in texts)
