"""Rows and files of other tools become a drop, and nothing that is not plain is guessed."""

from __future__ import annotations

import json
import sys
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


def test_parquet_without_its_package_is_one_line(good_lines: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(tmp_path / "data", [json.loads(line) for line in good_lines])
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # as where `pip install skillstack` brought the engine only
    with pytest.raises(DropError, match=r"needs the package pyarrow.*pip install 'skillstack\[eval\]'"):
        convert_drop(tmp_path / "data", tmp_path / "new.jsonl")
    assert not (tmp_path / "new.jsonl").exists()
