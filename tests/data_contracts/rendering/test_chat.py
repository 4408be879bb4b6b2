"""Rows of every spelling become one form of conversation; what no template could print is refused at its place."""

from __future__ import annotations

from typing import Any

import pytest

from data_contracts.errors import RenderingError
from data_contracts.rendering.chat import chat_of

U = {"role": "user", "content": "q"}
A = {"role": "assistant", "content": "a"}


def _messages(*turns: dict[str, Any], **more: Any) -> Any:
    chat = chat_of({"messages": list(turns), **more}, "row")
    assert chat is not None
    return chat


def test_prompt_and_completion_are_two_turns_and_other_rows_no_conversation() -> None:
    chat = chat_of({"prompt": "q", "completion": "a"}, "row")
    assert chat is not None
    assert (chat.messages, chat.learned, chat.tools, chat.unmask) == ((U, A), (False, True), None, False)
    assert chat_of({"text": "t"}, "row") is None
    assert chat_of({"input_ids": [1], "labels": [1]}, "row") is None


def test_arguments_as_text_become_the_object_and_null_content_goes() -> None:
    for arguments, expected in (('{"x": 1}', {"x": 1}), ({"x": 1}, {"x": 1}), ("", {})):
        call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
        [_, turn] = _messages(U, {"role": "assistant", "content": None, "tool_calls": [call]}).messages
        assert turn == {
            "role": "assistant",
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": expected}}],
        }
    [turn] = _messages({"role": "assistant", "content": "a", "tool_calls": []}).messages
    assert turn == A


def test_parts_of_text_are_joined_and_the_row_is_not_changed() -> None:
    row = {"messages": [{"role": "user", "content": ["a ", {"type": "text", "text": "b"}, {"text": "c"}], "weight": None}, A]}
    chat = chat_of(row, "row")
    assert chat is not None
    assert chat.messages[0] == {"role": "user", "content": "a bc"}
    assert row["messages"][0]["content"][0] == "a "


def test_which_turns_are_learned() -> None:
    chat = _messages(U, {**A, "weight": 0}, U, {**A, "weight": 1}, {"role": "tool", "content": "r"}, A)
    assert chat.learned == (False, False, False, True, False, True)
    assert all("weight" not in turn for turn in chat.messages)


def test_the_row_decides_about_unmask_before_the_caller() -> None:
    for own, default, expected in ((None, True, True), (None, False, False), (False, True, False), (True, False, True)):
        chat = chat_of({"messages": [U, A], "unmask": own}, "row", unmask=default)
        assert chat is not None
        assert chat.unmask is expected


def test_tools_may_be_json_text_and_no_tools_are_none() -> None:
    assert _messages(U, A, tools='[{"name": "f"}]').tools == ({"name": "f"},)
    assert _messages(U, A, tools=[]).tools is None
    with pytest.raises(RenderingError, match="row tools: is not a list of objects"):
        _messages(U, A, tools=["f"])
