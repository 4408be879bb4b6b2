"""Held-out items that come with a drop: each must be an item, none may occur twice, and the sealed part is a stable share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data_contracts.config import ContractConfig
from data_contracts.drop.supplied import read_supplied, supplied_as_items, write_supplied
from data_contracts.errors import DropError

CONFIG = ContractConfig(heldout_fraction=0.1, sealed_fraction=0.05)


def _written(folder: Path, items: list[dict[str, Any]]) -> Path:
    path = folder / "heldout.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


def _items(count: int) -> list[dict[str, Any]]:
    return [{"prompt": f"how much is {number} and {number}?", "answer": str(2 * number)} for number in range(count)]


def test_the_sealed_part_is_its_share_and_depends_on_the_question_alone(tmp_path: Path) -> None:
    items = read_supplied(_written(tmp_path, _items(600)), CONFIG)
    sealed = {str(item.value["prompt"]) for item in items if item.sealed}
    assert len(sealed) == pytest.approx(200, abs=45)  # a third; four standard deviations of a binomial
    fewer = [{**item, "answer": "other"} for item in _items(300)]
    again = {str(item.value["prompt"]) for item in read_supplied(_written(tmp_path, fewer), CONFIG) if item.sealed}
    assert again == {prompt for prompt in sealed if int(prompt.split()[3]) < 300}


def test_both_files_together_hold_every_item_as_it_was_given(tmp_path: Path) -> None:
    items = read_supplied(_written(tmp_path, _items(60)), CONFIG)
    counts = write_supplied(items, tmp_path)
    rows = {name: [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()] for name in counts}
    assert {name: len(part) for name, part in rows.items()} == counts
    assert sorted(map(str, rows["heldout"] + rows["sealed"])) == sorted(map(str, _items(60)))
    assert [(item.suite, item.answer) for item in supplied_as_items(items)][:2] == [("held out", "0"), ("held out", "2")]


ASKED, SAID = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
CALLED = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}


def test_a_call_is_a_gold_answer_and_text_parts_are_joined_as_in_rows(tmp_path: Path) -> None:
    in_parts = {"role": "user", "content": [{"type": "text", "text": "p"}, {"type": "text", "text": "q"}]}
    given = [{"messages": [ASKED, CALLED]}, {"messages": [in_parts, CALLED]}, {"messages": [ASKED, {**SAID, "weight": 0}, ASKED, SAID]}]
    items = read_supplied(_written(tmp_path, given), CONFIG.model_copy(update={"sealed_fraction": 0.0}))
    assert [item.value["messages"][0]["content"] for item in items] == ["q", "pq", "q"]
    assert [item.answer for item in supplied_as_items(items)] == ["f {}", "f {}", "a"]
    with pytest.raises(DropError, match=":4: repeats the item of line 2"):
        read_supplied(_written(tmp_path, [*given, {"messages": [{**ASKED, "content": "pq"}, CALLED]}]), CONFIG)


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({"prompt": "q"}, ":2: is not a held-out item"),
        ({"prompt": "q", "answer": " "}, ":2: is not a held-out item"),
        ({"prompt": " ", "answer": "a"}, ":2: is not a held-out item"),
        ({"prompt": "q", "choices": ["a"], "gold": 0}, ":2: is not a held-out item"),
        ({"prompt": "q", "choices": ["a", 2], "gold": 0}, ":2: is not a held-out item"),
        ({"messages": [{"role": "user", "content": "q"}]}, ":2: is not a held-out item"),
        (_items(1)[0], ":2: repeats the item of line 1"),
        ({"messages": "q", "prompt": "q"}, ":2: is not a held-out item"),
        ({"messages": [ASKED, {"role": "assistant", "content": None}]}, ":2: is not a held-out item"),
        ({"messages": [ASKED, {"role": "assistant", "content": None, "tool_calls": []}]}, ":2: is not a held-out item"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}, SAID]}, ":2: is not a held-out item"),
        ({"messages": [ASKED, SAID, ASKED, {**SAID, "weight": 0}]}, r":2: has a gold answer of weight 0, .*\(.*leave the item out"),
    ],
)
def test_one_bad_item_refuses_the_file(item: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(DropError, match=reason):
        read_supplied(_written(tmp_path, [_items(1)[0], item]), CONFIG)


def test_a_file_without_an_item_for_the_gate_is_refused(tmp_path: Path) -> None:
    for items in ([], _items(30)):
        with pytest.raises(DropError, match="none of them for the gate"):
            read_supplied(_written(tmp_path, items), CONFIG.model_copy(update={"heldout_fraction": 0.0}))
    open_only = read_supplied(_written(tmp_path, _items(30)), CONFIG.model_copy(update={"sealed_fraction": 0.0}))
    assert not any(item.sealed for item in open_only)
