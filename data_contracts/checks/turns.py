"""The order of roles and the turns themselves: what a chat template or a trainer would choke on or learn nothing from."""

from __future__ import annotations

from collections.abc import Iterator

from data_contracts.findings import Finding, RowCheck
from data_contracts.records import ROLES, Row

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

    def observe(self, row: Row, ordinal: int) -> list[Finding]:
        if row.shape == "document":
            return [] if row.value["text"].strip() else [Finding("empty_turn", row.line, "text is empty or white space")]
        found = [Finding("turns", row.line, reason) for reason in _role_faults(row)]
        for index, turn in enumerate(row.messages):
            if not (turn.get("content") or "").strip() and not (turn["role"] == "assistant" and turn.get("tool_calls")):
                found.append(Finding("empty_turn", row.line, f"messages[{index}] ({turn['role']}) is empty or white space"))
        return found


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
    if row.messages and (before != "assistant"):
        yield f"ends with {before!r}: the last turn must be the assistant's"
    elif row.messages and not (row.messages[-1].get("content") or "").strip():
        yield "ends with a tool call that nothing answers: the last assistant turn must say something"
