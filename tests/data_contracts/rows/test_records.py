"""Rows in their one normal form: the shape is known or refused, text parts are joined, unknown fields are named, keys are stable."""

from __future__ import annotations

import json
from typing import Any

import pytest

from data_contracts.drop.carve import carve_keys
from data_contracts.rows.records import Row, decode_tools, join_parts, normal_row, normal_text, row_json, shape_of, text_key
from data_contracts.rows.taught import framing

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


CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
THROUGH_A_TOOL = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Who?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "r", "tool_call_id": "1"},
    {"role": "assistant", "reasoning_content": "so", "content": "Vermeer."},
]


@pytest.mark.parametrize(
    ("shape", "value", "row_key", "sides"),
    [
        (
            "completion",
            {"prompt": "Who painted it?", "completion": "Vermeer."},
            0x919585DF60E43DDA,
            (0x85F2F17166130B03, 0x85F2F17166130B03),
        ),
        ("document", {"text": "A document."}, 0x8311EBA79467686D, (0x37ECC8657A8DBEB, 0x37ECC8657A8DBEB)),
        ("chat", {"messages": THROUGH_A_TOOL, "id": "7"}, 0x368D8E271C4C1C92, (0xD8449C7E9B2C34B0, 0x103DB5B3FC9AABF5)),
    ],
)
def test_rows_without_weight_tools_and_unmask_have_the_keys_of_every_release(
    shape: Any, value: dict[str, Any], row_key: int, sides: tuple[int, int]
) -> None:
    """Signatures of drops that were learned hold these numbers; they were computed before weight, tools and unmask entered them."""
    row = normal_row(1, shape, value)
    assert text_key(normal_text(row.content_text()), "row") == row_key
    assert carve_keys(row) == sides
    weighed = {**value, "messages": [{**turn, "weight": 1} for turn in value.get("messages", ())], "tools": [], "unmask": False}
    if shape == "chat":  # what holds anyway may be said in so many words
        assert text_key(normal_text(normal_row(1, shape, weighed).content_text()), "row") == row_key


def test_what_is_learned_and_under_which_tools_makes_another_row() -> None:
    turns = [*TURNS, *TURNS]
    context = {**TURNS[1], "weight": 0}
    values: list[dict[str, Any]] = [
        {"messages": turns},
        {"messages": [*turns[:3], context]},
        {"messages": [turns[0], context, *turns[2:]]},
        {"messages": turns, "tools": [{"type": "function", "function": {"name": "f"}}]},
        {"messages": turns, "tools": [{"type": "function", "function": {"name": "g"}}]},
        {"messages": turns, "unmask": True},
    ]
    assert len({Row(1, "chat", value).content_text() for value in values}) == len(values)
    assert len({framing(value) for value in values}) == len(values)
    same = {"messages": [{**turn, "weight": 1} for turn in turns], "tools": [], "unmask": False}
    asked_with_weight = {"messages": [{**turns[0], "weight": 0}, *turns[1:]]}  # a question is never learned
    for value in (same, asked_with_weight):
        assert Row(1, "chat", value).content_text() == Row(1, "chat", values[0]).content_text()
        assert framing(value) == framing(values[0])
    assert framing({"text": "t"}) == framing({"text": "s", "unmask": False})


def test_a_row_on_disk_is_one_line_that_reads_back() -> None:
    value = {"messages": [{"role": "user", "content": 'é "x"\n'}]}
    assert "\n" not in row_json(value)
    assert "é" in row_json(value)
    assert json.loads(row_json(value)) == value
