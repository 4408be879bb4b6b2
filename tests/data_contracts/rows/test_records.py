"""Rows in their one normal form: the shape is known or refused, text parts are joined, unknown fields are named, keys are stable."""

from __future__ import annotations

import json
from typing import Any

import pytest

from data_contracts.rows.records import Row, decode_tools, join_parts, normal_row, normal_text, row_json, shape_of, text_key

TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


@pytest.mark.parametrize(
    ("value", "shape"), [({"messages": []}, "chat"), ({"prompt": "a", "completion": "b"}, "completion"), ({"text": "a"}, "document")]
)
def test_the_shape_of_a_row(value: dict[str, Any], shape: str) -> None:
    assert shape_of(value) == shape


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"messages": [], "text": "a"}, "has the fields of chat and document rows: expected one shape"),
        ({"words": 1, "a": 2}, r"has neither messages, nor prompt and completion, nor text \(it has a, words\)"),
        ({}, r"\(it has no fields\)"),
        ({"conversations": []}, "--convert"),
    ],
)
def test_a_row_of_no_shape_or_of_two_is_refused(value: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        shape_of(value)


def test_a_row_keeps_what_the_contract_knows_and_names_the_rest() -> None:
    value = {"messages": [TURNS[0], {**TURNS[1], "weight": 1, "mood": "x", "name": None}], "id": "7", "source": "y", "unmask": None}
    row = normal_row(3, "chat", value)
    assert row.value == {"messages": [TURNS[0], {**TURNS[1], "weight": 1}], "id": "7"}
    assert row.unknown == ("source", "messages[].mood")
    assert normal_row(3, "completion", {"prompt": "q", "completion": "a"}).value == {"messages": TURNS}


def test_text_parts_are_joined_and_others_left_to_the_schema() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    value: dict[str, Any] = {"messages": [{"content": parts}, {"content": [{"type": "image"}]}, {"content": [{"type": "text"}]}, "x"]}
    join_parts(value)
    assert [turn["content"] for turn in value["messages"][:3]] == ["ab", [{"type": "image"}], [{"type": "text"}]]
    join_parts({"messages": "no list"})


def test_tools_in_json_text_are_tools_and_other_text_is_left_to_the_schema() -> None:
    written = [{"tools": '[{"name": "f"}]'}, {"tools": [{"name": "f"}]}, {"tools": '{"name": "f"}'}, {"tools": "[" * 100_000}, {}]
    for value in written:
        decode_tools(value)
    assert written == [{"tools": [{"name": "f"}]}, {"tools": [{"name": "f"}]}, {"tools": '{"name": "f"}'}, {"tools": "[" * 100_000}, {}]


def test_the_texts_of_a_row() -> None:
    turns = [TURNS[0], {"role": "assistant", "reasoning_content": "because", "content": "a", "tool_calls": [{"name": "f"}]}]
    row = Row(1, "chat", {"messages": turns})
    assert row.texts() == ["q", "because", "a"]
    assert row.prompt_text() == "user: q"
    assert "because" in row.content_text()
    assert row.content_text() != Row(1, "chat", {"messages": [TURNS[0], {**turns[1], "tool_calls": []}]}).content_text()
    document = Row(1, "document", {"text": "t"})
    assert (document.texts(), document.prompt_text(), document.content_text(), list(document.messages)) == (["t"], "t", "t", [])


def test_keys_are_the_same_in_every_release() -> None:
    """Held-out rows stay on their side only as long as these numbers do."""
    assert text_key("user: q", "carve") == 0xDD8312C2D0E6014E
    assert text_key("user: q", "carve") != text_key("user: q", "row")
    assert normal_text(" a\tb\u00a0c\n") == "a b c"
    assert normal_text("e\u0301") == "\u00e9"


def test_a_row_on_disk_is_one_line_that_reads_back() -> None:
    value = {"messages": [{"role": "user", "content": 'é "x"\n'}]}
    assert "\n" not in row_json(value)
    assert "é" in row_json(value)
    assert json.loads(row_json(value)) == value
