"""Orders of roles that templates render pass; each other order is named at the turn where it goes wrong."""

from __future__ import annotations

from typing import Any

import pytest

from data_contracts.checks.turns import Turns
from data_contracts.rows.records import Row

CALL = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": {}}}]


def _reasons(*turns: tuple[str, str] | dict[str, Any]) -> list[tuple[str, str]]:
    messages = [turn if isinstance(turn, dict) else {"role": turn[0], "content": turn[1]} for turn in turns]
    return [(finding.check, finding.reason) for finding in Turns().observe_row(Row(1, "chat", {"messages": messages}))]


U, A, S = ("user", "a"), ("assistant", "b"), ("system", "s")
CALLING: dict[str, Any] = {"role": "assistant", "tool_calls": CALL}


@pytest.mark.parametrize(
    "turns",
    [
        (U, A),
        (S, U, A),
        (U, A, U, A),
        (U, CALLING, ("tool", "r"), ("tool", "r"), A),
        (U, CALLING),
        (U, {"role": "assistant", "content": "a draft", "weight": 0}, U, A),
    ],
)
def test_an_order_that_templates_render_is_left_alone(turns: tuple[Any, ...]) -> None:
    assert _reasons(*turns) == []


def test_each_break_of_the_order_is_named_with_what_was_expected() -> None:
    assert _reasons(U, U, A) == [("turns", "messages[1].role='user' after user: expected assistant")]
    assert _reasons(S, S, U, A) == [("turns", "messages[1].role='system' after system: expected user")]
    assert _reasons(A) == [("turns", "messages[0].role='assistant' first: expected system or user")]
    assert _reasons(U, A, ("tool", "r"), A) == [("turns", "messages[2].role='tool' answers an assistant turn that has no tool_calls")]
    assert _reasons(U, ("bot", "b")) == [("turns", "messages[1].role='bot': expected system, user, assistant or tool")]
    assert _reasons(U, CALLING, ("tool", "r")) == [("turns", "ends with 'tool': the last turn must be the assistant's")]


def test_only_a_call_may_stand_without_words() -> None:
    assert _reasons(("user", "\u200b \ufeff"), A) == [("empty_turn", "messages[0] (user) is empty or white space")]
    assert _reasons(U, {"role": "assistant", "content": None}) == [("empty_turn", "messages[1] (assistant) is empty or white space")]


def test_a_blank_document_is_empty() -> None:
    [finding] = Turns().observe_row(Row(1, "document", {"text": "\n\t "}))
    assert finding.check == "empty_turn"
    assert list(Turns().observe_row(Row(1, "document", {"text": "."}))) == []
