"""One line of a drop as a value: chat, prompt/completion or document, in the one normal form that later stages read.

Prompt/completion rows become a user and an assistant turn. Text is kept as it was written; only fields that the
contract does not know are left out.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from data_contracts.rows.other_shapes import name_shape
from data_contracts.rows.plain_text import stream_safe
from data_contracts.rows.taught import framing, joined_text

Shape = Literal["chat", "completion", "document"]
ROLES = ("system", "user", "assistant", "tool")
ROW_FIELDS = ("id", "messages", "prompt", "completion", "text", "tools", "unmask")
#: Made once: `json.dumps` makes an encoder per call.
_spell = json.JSONEncoder(ensure_ascii=False, separators=(", ", ": ")).encode
#: The way out of a row in another tool's shape.
CONVERT_ROWS = "skillstack validate DROP --convert NEW.jsonl writes it as messages"
MESSAGE_FIELDS = ("role", "content", "reasoning_content", "tool_calls", "tool_call_id", "name", "weight")


@dataclass(frozen=True, slots=True)
class Row:
    """A row that keeps the schema. `value` is what the clean file holds."""

    line: int
    shape: Shape
    value: Mapping[str, Any]
    unknown: tuple[str, ...] = field(default=())

    @property
    def messages(self) -> Sequence[Mapping[str, Any]]:
        """The turns; a document has none."""
        turns: Sequence[Mapping[str, Any]] = self.value.get("messages", ())
        return turns

    def texts(self) -> list[str]:
        """Every piece of text that a model could be trained on."""
        if self.shape == "document":
            return [self.value["text"]]
        found = []
        for turn in self.messages:
            if turn.get("reasoning_content"):
                found.append(turn["reasoning_content"])
            if turn.get("content"):
                found.append(turn["content"])
        return found

    def prompt_text(self) -> str:
        """Everything before the final assistant turn: what decides on which side of the held-out split a row lies."""
        if self.shape == "document":
            return str(self.value["text"])
        return _asked(self.messages[:-1])

    def opening_text(self) -> str:
        """Everything before the first assistant turn; of a conversation with one question, all that is before the answer."""
        if self.shape == "document":
            return str(self.value["text"])
        answers = (place for place, turn in enumerate(self.messages) if turn["role"] == "assistant")
        return _asked(self.messages[: next(answers, len(self.messages))])

    def content_text(self) -> str:
        """The row as one text, roles included, ids left out; of rows with one text the same is learned under the same tools."""
        if self.shape == "document":
            return str(self.value["text"])
        lines = [f"{turn['role']}: {turn.get('content') or ''}{_extras(turn)}" for turn in self.messages]
        frame = framing(self.value)
        return "\n".join([*lines, frame] if frame else lines)


def _asked(turns: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join([f"{turn['role']}: {turn.get('content') or ''}" for turn in turns])


def _extras(turn: Mapping[str, Any]) -> str:
    """What a turn holds beside its role and content, so that rows that differ only there are not called equal."""
    if len(turn) == 2 and "content" in turn:  # nearly every turn; a call without words has two fields too
        return ""
    found = {name: turn[name] for name in ("reasoning_content", "tool_calls") if turn.get(name)}
    return json.dumps(found, sort_keys=True, ensure_ascii=False) if found else ""


def shape_of(value: Mapping[str, Any]) -> Shape:
    """Which of the three shapes a JSON object means. Raises ValueError with the reason where it is none or more than one."""
    if (other := name_shape(value)) is not None:
        raise ValueError(other if other.startswith("is preference") else f"{other} ({CONVERT_ROWS})")
    found: list[Shape] = []
    if "messages" in value:
        found.append("chat")
    if "prompt" in value or "completion" in value:
        found.append("completion")
    if "text" in value:
        found.append("document")
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"has the fields of {' and '.join(found)} rows: expected one shape")
    names = ", ".join(name[:40] for name in sorted(value)[:5]) or "no fields"
    raise ValueError(f"has neither messages, nor prompt and completion, nor text (it has {names})")


def join_parts(value: dict[str, Any]) -> None:
    """Content in text parts becomes the text that they make, in place; other parts stay for the schema to refuse."""
    turns = value.get("messages")
    for turn in turns if isinstance(turns, list) else ():
        if isinstance(turn, dict) and isinstance(turn.get("content"), list):
            turn["content"] = joined_text(turn["content"])


def decode_tools(value: dict[str, Any]) -> None:
    """Tools written as JSON text (a table without nested columns) become the list that they are, in place; other text stays for the schema
    to refuse."""
    tools = value.get("tools")
    if isinstance(tools, str):
        with suppress(ValueError, RecursionError):
            found = json.loads(tools)
            if isinstance(found, list):
                value["tools"] = found


def normal_row(line: int, shape: Shape, value: Mapping[str, Any]) -> Row:
    """Put a schema-checked object into its normal form."""
    unknown = [name for name in value if name not in ROW_FIELDS]
    if shape == "document":
        kept: dict[str, Any] = {"text": value["text"]}
    elif shape == "completion":
        kept = {"messages": [{"role": "user", "content": value["prompt"]}, {"role": "assistant", "content": value["completion"]}]}
    else:
        turns = []
        for turn in value["messages"]:
            if len(turn) == 2 and turn.get("content") is not None:  # role and content: nearly every turn
                turns.append({"role": turn["role"], "content": turn["content"]})
                continue
            turns.append({name: turn[name] for name in MESSAGE_FIELDS if turn.get(name) is not None})
            unknown += [f"messages[].{name}" for name in turn if name not in MESSAGE_FIELDS]
        kept = {"messages": turns}
    kept |= {name: value[name] for name in ("id", "tools", "unmask") if value.get(name) is not None}
    return Row(line=line, shape=shape, value=kept, unknown=tuple(dict.fromkeys(unknown)))


def normal_text(text: str) -> str:
    """NFC, runs of white space as one space: spellings that a reader would call the same text."""
    return " ".join(text.split() if text.isascii() else unicodedata.normalize("NFC", stream_safe(text)).split())


def text_key(text: str, purpose: str = "") -> int:
    """A stable 64-bit key of a text; the same on every machine and in every release."""
    person = purpose.encode()[:16]
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, person=person).digest(), "big")


def row_json(value: Mapping[str, Any]) -> str:
    """The spelling of a row on disk: one per value, field order kept."""
    return _spell(value)
