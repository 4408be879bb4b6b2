"""Items that a training row gives away are found, and no others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from data_contracts.matching.heldout_items import HeldoutItem
from data_contracts.matching.trained_rows import seen_items


@pytest.fixture
def clean(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, *pairs: tuple[str, str]) -> Path:
        rows = ({"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]} for q, a in pairs)
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


def item(line: int, question: str, answer: str) -> HeldoutItem:
    return HeldoutItem("more", line, (question,), answer)


def test_every_item_that_a_row_says_is_named_once_with_the_row(clean: Callable[..., Path]) -> None:
    first = clean("first.jsonl", ("double abc", "aabbcc"), ("where does the invoice for the lamp go", "billing"))
    second = clean("second.jsonl", ("Double ABC!", "aabbcc"), ("the red light on the kettle blinks", "fault"))
    items = [
        item(1, "double abc", "aabbcc"),
        item(2, "double abd", "aabbdd"),
        item(3, "where does the invoice for the lamp go", "billing"),
        item(4, "where does the parcel for the lamp go", "shipping"),
        item(5, "the red light on the kettle blinks", "fault"),
    ]
    found = {each.line: where for each, where in seen_items(items, [first, second])}
    assert found == {1: f"{first}:1", 3: f"{first}:2", 5: f"{second}:2"}


def test_two_items_of_one_row_are_both_named(clean: Callable[..., Path]) -> None:
    said = "the small brown dog sat by the old wooden door all day long"
    path = clean("rows.jsonl", (said, "yes"))
    items = [item(1, said, "yes"), HeldoutItem("other", 2, (said,), "no")]
    assert {each.line for each, _ in seen_items(items, [path])} == {1, 2}


def test_nothing_was_trained_on_and_nothing_is_seen(clean: Callable[..., Path]) -> None:
    assert list(seen_items([item(1, "what is the time", "noon")], [])) == []
