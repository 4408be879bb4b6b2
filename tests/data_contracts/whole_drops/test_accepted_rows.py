"""Rows that are documented as accepted are accepted, and reach the clean file with everything that decides their text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_contracts.config import ContractConfig
from data_contracts.validate import validate_drop

TOOLS = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object", "properties": {"id": {"type": "string"}}}}}]
USER = {"role": "user", "content": "where is order B7?"}
LENIENT = ContractConfig(max_bad_fraction=1.0, max_dropped_fraction=1.0, heldout_fraction=0.0, sealed_fraction=0.0)


def _call(arguments: Any, **content: Any) -> dict[str, Any]:
    return {
        "role": "assistant",
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "find", "arguments": arguments}}],
        **content,
    }


ROWS: list[dict[str, Any]] = [
    {"messages": [USER, _call({"id": "B7"}), {"role": "tool", "tool_call_id": "c1", "name": "find", "content": "lost"},
                  {"role": "assistant", "content": "It is lost."}], "tools": TOOLS},
    {"messages": [USER, _call('{"id": "B8"}', content=None)], "tools": TOOLS},
    {"messages": [USER, _call({"id": "B9"}, content="")], "tools": TOOLS},
    {"messages": [USER, {"role": "assistant", "content": "wrong", "weight": 0}, USER,
                  {"role": "assistant", "content": "right", "weight": 1}]},
    {"messages": [USER, {"role": "assistant", "reasoning_content": "it was sold", "content": "sold"}]},
    {"messages": [USER, {"role": "assistant", "content": "always sign"}], "unmask": True},
    {"prompt": "what of order B1?", "completion": "nothing"},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "what of "}, {"type": "text", "text": "B2?"}]},
                  {"role": "assistant", "content": "much"}]},
    {"messages": [USER, {"role": "assistant", "content": "on a boat"}], "tools": json.dumps(TOOLS)},
    {"text": "An order is a paper that says what is wanted."},
]  # fmt: skip


def test_every_documented_row_is_kept_with_what_decides_its_text(
    good_lines: list[bytes], write_drop: Callable[..., Path], tmp_path: Path
) -> None:
    drop = write_drop([*good_lines[:30], *(json.dumps(row).encode() for row in ROWS)], "rows.jsonl")
    manifest = validate_drop(drop, tmp_path / "out", skill="notes", config=LENIENT)
    assert manifest.rows_quarantined == 0
    kept = [json.loads(line) for line in (tmp_path / "out" / "clean.jsonl").read_text().splitlines()]
    clean = {json.dumps(row, sort_keys=True) for row in kept}
    expected = [json.loads(json.dumps(row)) for row in ROWS]
    del expected[1]["messages"][1]["content"]  # content that is null is no content
    expected[6] = {"messages": [{"role": "user", "content": "what of order B1?"}, {"role": "assistant", "content": "nothing"}]}
    expected[7]["messages"][0]["content"] = "what of B2?"
    expected[8]["tools"] = TOOLS
    for row in expected:
        assert json.dumps(row, sort_keys=True) in clean
