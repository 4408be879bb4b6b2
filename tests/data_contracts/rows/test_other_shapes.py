"""Rows and files in the shapes of other tools: one line that names the shape and the way out, and a conversion that guesses nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data_contracts.config import ContractConfig
from data_contracts.errors import DropError
from data_contracts.rows.convert import convert_drop
from data_contracts.validate import validate_drop

ASKED, SAID = "route the long screen", "technical"
WANTED = {"messages": [{"role": "user", "content": ASKED}, {"role": "assistant", "content": SAID}]}
WITH_SYSTEM = {"messages": [{"role": "system", "content": "Route."}, *WANTED["messages"]]}

SHAPES: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "sharegpt": ({"conversations": [{"from": "human", "value": ASKED}, {"from": "gpt", "value": SAID}]}, "ShareGPT row", WANTED),
    "sharegpt with system": (
        {"system": "Route.", "conversations": [{"from": "human", "value": ASKED}, {"from": "gpt", "value": SAID}]},
        "ShareGPT row",
        WITH_SYSTEM,
    ),
    "alpaca": ({"instruction": ASKED, "input": "", "output": SAID}, "Alpaca row", WANTED),
    "alpaca with text": (
        {"instruction": ASKED, "input": "", "output": SAID, "text": f"Below is an instruction.\n\n{ASKED}\n\n### Response:\n{SAID}"},
        "Alpaca row",
        WANTED,
    ),
    "alpaca with input": ({"instruction": "route", "input": "the long screen", "output": SAID}, "Alpaca row", {
        "messages": [{"role": "user", "content": "route\n\nthe long screen"}, {"role": "assistant", "content": SAID}]
    }),
    "dolly": (
        {"instruction": "route", "context": "the long screen", "response": SAID, "category": "closed_qa"},
        "instruction and response",
        {"messages": [{"role": "user", "content": "route\n\nthe long screen"}, {"role": "assistant", "content": SAID}]},
    ),
    "dolly without context": (
        {"instruction": ASKED, "context": "", "response": SAID, "category": "open_qa"}, "instruction and response", WANTED
    ),
    "openorca": (
        {"id": "7", "system_prompt": "Route.", "question": ASKED, "response": SAID},
        "question and response",
        {**WITH_SYSTEM, "id": "7"},
    ),
    "sharegpt with system prompt": (
        {"system_prompt": "Route.", "conversations": [{"from": "human", "value": ASKED}, {"from": "gpt", "value": SAID}]},
        "ShareGPT row",
        WITH_SYSTEM,
    ),
    "sharegpt with its system turn again": (
        {"system": "Route.", "conversations": [{"from": "system", "value": "Route."}, *WANTED["messages"]]},
        "ShareGPT row",
        WITH_SYSTEM,
    ),
    "developer": (
        {"messages": [{"role": "developer", "content": "Route."}, *WANTED["messages"]]},
        "OpenAI's developer is system",
        WITH_SYSTEM,
    ),
    "prompt beside messages": ({"prompt": ASKED, "prompt_id": "0", "messages": WANTED["messages"]}, "prompt beside messages", WANTED),
    "label beside text": ({"text": ASKED, "label": SAID}, "label beside text", WANTED),
    "question and answer": ({"question": ASKED, "answer": SAID}, "question and answer", WANTED),
    "prompt and response": ({"prompt": ASKED, "response": SAID}, "prompt and response", WANTED),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_a_row_of_another_shape_is_named_with_the_way_out_and_converted(name: str, tmp_path: Path) -> None:
    row, reason, wanted = SHAPES[name]
    drop = tmp_path / "drop.jsonl"
    drop.write_text((json.dumps(row) + "\n") * 2, encoding="utf-8")
    with pytest.raises(DropError, match=reason) as caught:
        validate_drop(drop, tmp_path / "out", skill="notes", config=ContractConfig())
    assert "--convert" in str(caught.value)
    assert caught.value.where == f"{drop}:1"
    convert_drop(drop, tmp_path / "new.jsonl")
    assert [json.loads(line) for line in (tmp_path / "new.jsonl").read_text().split("\n")[:-1]] == [wanted, wanted]
