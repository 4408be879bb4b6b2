"""Rows and files in the shapes of other tools: one line that names the shape and the way out, and a conversion that guesses nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
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
    "alpaca with text": ({"instruction": ASKED, "input": "", "output": SAID, "text": "Below is ..."}, "Alpaca row", WANTED),
    "alpaca with input": ({"instruction": "route", "input": "the long screen", "output": SAID}, "Alpaca row", {
        "messages": [{"role": "user", "content": "route\n\nthe long screen"}, {"role": "assistant", "content": SAID}]
    }),
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


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "which answer is to be learned"),
        ({"text": "a", "label": 3}, "label that is no text"),
        ({"conversations": [{"from": "narrator", "value": "a"}]}, "turn 0 is of 'narrator'"),
        ({"instruction": "a", "output": "b", "history": [["c", "d"]]}, "history"),
        ({"prompt": "another question", **WANTED}, "prompt that is not in its messages"),
        ({"name": "a"}, "no known shape"),
    ],
)
def test_what_is_not_plain_is_not_guessed_and_nothing_is_written(row: dict[str, Any], reason: str, tmp_path: Path) -> None:
    drop = tmp_path / "drop.jsonl"
    drop.write_text(json.dumps(WANTED) + "\n" + json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(DropError, match=reason) as caught:
        convert_drop(drop, tmp_path / "new.jsonl")
    assert caught.value.where == f"{drop}:2"
    assert [path.name for path in tmp_path.iterdir()] == ["drop.jsonl"]


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    pairs = [[turn["content"] for turn in row["messages"]] for row in rows]
    path.write_text("prompt,completion\n" + "".join(f'"{question}","{answer}"\n' for question, answer in pairs), encoding="utf-8")


FILES: dict[str, Callable[[Path, list[dict[str, Any]]], Any]] = {
    "array": lambda path, rows: path.write_text(json.dumps(rows)),
    "pretty-array": lambda path, rows: path.write_text(json.dumps(rows, indent=2)),
    "pretty-objects": lambda path, rows: path.write_text("\n".join(json.dumps(row, indent=2) for row in rows)),
    "utf-16": lambda path, rows: path.write_bytes("".join(json.dumps(row) + "\n" for row in rows).encode("utf-16")),
    "utf-32": lambda path, rows: path.write_bytes("".join(json.dumps(row) + "\n" for row in rows).encode("utf-32")),
    "parquet": write_parquet,
    "csv": write_csv,
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_kind_is_converted_to_rows_that_pass(name: str, good_lines: list[bytes], tmp_path: Path) -> None:
    rows = [json.loads(line) for line in good_lines]
    FILES[name](tmp_path / "data", rows)
    with pytest.raises(DropError, match=r"not (JSON Lines|UTF-8|one JSON object per line)|pretty-printed"):
        validate_drop(tmp_path / "data", tmp_path / "refused", skill="notes", config=ContractConfig())
    assert convert_drop(tmp_path / "data", tmp_path / "new.jsonl").rows == len(rows)
    manifest = validate_drop(tmp_path / "new.jsonl", tmp_path / "out", skill="notes", config=ContractConfig())
    assert manifest.rows_read == len(rows)
    assert manifest.rows_quarantined == 0


@pytest.mark.parametrize("skill", ["general", "General", "piqa", "a.b", "a b", "../a", "a" * 64, "-a", "", "a\n"])
def test_a_skill_may_not_have_the_name_of_a_suite_or_one_that_is_none(skill: str, good_lines: list[bytes], tmp_path: Path) -> None:
    drop = tmp_path / "drop.jsonl"
    drop.write_bytes(b"\n".join(good_lines))
    with pytest.raises(DropError, match="the skill's name"):
        validate_drop(drop, tmp_path / "out", skill=skill, config=ContractConfig(), suite_names=["general", "piqa.sealed"])
