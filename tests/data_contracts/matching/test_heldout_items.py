"""The question and the gold answer of an item, in each of the shapes that suites come in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data_contracts.errors import DropError
from data_contracts.matching.heldout_items import heldout_item, item_texts, read_suite

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "one?"},
    {"role": "assistant", "content": "1"},
    {"role": "user", "content": "two?"},
    {"role": "assistant", "content": "2"},
]

CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
PARTS = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]


@pytest.mark.parametrize(
    ("item", "texts"),
    [
        ({"messages": CHAT}, (("one?", "two?"), "2")),
        ({"messages": CHAT[:-1]}, (("one?", "two?"), "")),
        ({"messages": [*CHAT[:-1], {"role": "assistant", "content": None, "tool_calls": [CALL]}]}, (("one?", "two?"), 'f {"x": 1}')),
        ({"messages": [{"role": "user", "content": PARTS}, {"role": "assistant", "content": PARTS}]}, (("ab",), "ab")),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}, "x", CHAT[-1]]}, ((), "2")),
        ({"messages": [*CHAT, {"role": "assistant", "content": None}]}, (("one?", "two?"), "")),
        ({"prompt": "p", "choices": ["a", "b"], "gold": 1}, (("p",), "b")),
        ({"prompt": "p", "choices": ["a", "b"], "gold": 5, "answer": "c"}, (("p",), "c")),
        ({"prompt": "p", "choices": ["a", "b"], "gold": True}, (("p",), "")),
        ({"question": "q", "answer": "a"}, (("q",), "a")),
        ({"text": "t"}, (("t",), "")),
        ({"prompt": "  ", "query": "q"}, (("q",), "")),
        ({"prompt": 3}, ((), "")),
        ({}, ((), "")),
    ],
)
def test_question_and_answer_of_each_shape(item: dict[str, Any], texts: tuple[tuple[str, ...], str]) -> None:
    assert item_texts(item) == texts


def test_items_know_their_suite_and_line(tmp_path: Path) -> None:
    path = tmp_path / "piqa" / "heldout.jsonl"
    path.parent.mkdir()
    path.write_text("\n".join(["", json.dumps({"prompt": "a?", "answer": "b"}), "", json.dumps({"text": "c"})]))
    assert [(item.suite, item.line, item.questions, item.answer) for item in read_suite(path, max_line_bytes=1000)] == [
        ("piqa/heldout", 2, ("a?",), "b"),
        ("piqa/heldout", 4, ("c",), ""),
    ]
    with pytest.raises(
        DropError, match=r"heldout\.jsonl:2: the suite cannot be checked for contamination: is 31 bytes long: the limit is 10"
    ):
        read_suite(path, max_line_bytes=10)


def test_a_conversation_that_ends_with_a_call_is_not_recognised_without_it() -> None:
    """Of a row that is compared only the words are read: the turns before the call would be found in a row with another call."""
    called = heldout_item("s", 1, {"messages": [*CHAT[:-1], {"role": "assistant", "content": None, "tool_calls": [CALL]}]})
    said = heldout_item("s", 1, {"messages": [*CHAT[:-1], {"role": "assistant", "content": PARTS}]})
    assert (called.turns, said.turns) == ((), ("one?", "1", "two?", "ab"))
