"""The order of roles and the turns themselves: what a chat template would refuse, or a model would learn nothing from."""

from __future__ import annotations

from collections.abc import Iterator

from data_contracts.errors import RenderingError
from data_contracts.rendering.chat import chat_of
from data_contracts.rows.findings import Finding, RowCheck
from data_contracts.rows.records import ROLES, Row

#: Which roles may follow which. A tool turn answers an assistant's call; several may follow one another.
_NEXT = {
    "start": ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("tool", "assistant"),
}


class Turns(RowCheck):
    """Roles in an order that a chat template renders, ending with the assistant; no turn that is empty."""

    def observe_row(self, row: Row) -> Iterator[Finding]:
        if row.shape == "document":
            if not row.value["text"].strip():
                yield Finding("empty_turn", row.line, "text is empty or white space")
            return
        for reason in (*_role_faults(row), *_call_faults(row)):
            yield Finding("turns", row.line, reason)
        for index, turn in enumerate(row.messages):
            if not _says_something(turn.get("content")) and not (turn["role"] == "assistant" and turn.get("tool_calls")):
                yield Finding("empty_turn", row.line, f"messages[{index}] ({turn['role']}) is empty or white space")


def _says_something(text: str | None) -> bool:
    """False for nothing, white space, and invisible characters (zero-width, byte-order mark)."""
    return bool(text) and any(not char.isspace() and char not in "\u200b\u200c\u200d\u2060\ufeff\u00ad" for char in text or "")


def _call_faults(row: Row) -> Iterator[str]:
    """Tool calls and tools that no chat template could print."""
    if row.value.get("tools") or any(turn.get("tool_calls") for turn in row.messages):
        try:
            chat_of(row.value, "")
        except RenderingError as error:
            yield f"{error.where} {error.what}".strip()


def _role_faults(row: Row) -> Iterator[str]:
    before = "start"
    for index, turn in enumerate(row.messages):
        role = turn["role"]
        if role not in ROLES:
            yield f"messages[{index}].role={role!r}: expected {', '.join(ROLES[:-1])} or {ROLES[-1]}"
            return
        if role not in _NEXT[before]:
            place = "first" if before == "start" else f"after {before}"
            yield f"messages[{index}].role={role!r} {place}: expected {' or '.join(_NEXT[before])}"
        elif role == "tool" and before == "assistant" and not row.messages[index - 1].get("tool_calls"):
            yield f"messages[{index}].role='tool' answers an assistant turn that has no tool_calls"
        before = role
    if before != "assistant":
        yield f"ends with {before!r}: the last turn must be the assistant's"
    elif all(turn.get("weight") == 0 for turn in row.messages if turn["role"] == "assistant"):
        yield "has the weight 0 in every assistant turn: nothing would be learned"
