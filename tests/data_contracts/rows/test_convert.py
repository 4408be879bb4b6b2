"""Rows and files of other tools become a drop, and nothing that is not plain is guessed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
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


LOST: dict[str, tuple[dict[str, Any], str]] = {
    "a passage": ({"context": "It was grey.", "question": "What colour was it?", "answer": "grey"}, "context beside question and answer"),
    "a passage and options": (
        {"article": "It was grey.", "question": "What colour was it?", "options": ["grey", "red"], "answer": "A"},
        "article and options beside question and answer",
    ),
    "a second text": ({"text": "It rains.", "text_pair": "It is wet.", "label": "entailment"}, "text_pair beside text and label"),
    "a second answer": ({"prompt": "a", "response": "b", "answer": "c"}, "answer beside prompt and response"),
    "a number": ({"prompt": "a", "response": "b", "temperature": 3}, "temperature beside prompt and response"),
    "a passage of a conversation": ({"conversations": WANTED["messages"], "context": "It was grey."}, "context beside conversations"),
    "a second conversation": ({"conversations": WANTED["messages"], "messages": WANTED["messages"][:1]}, "messages beside conversations"),
    "input and context": ({"instruction": "a", "input": "b", "context": "c", "output": "d"}, "input and context beside instruction"),
    "input of a question": ({"question": "a", "input": "b", "answer": "c"}, "input beside question and answer"),
    "input that is no text": ({"instruction": "a", "input": ["b"], "output": "c"}, "input that is no text"),
    "a system prompt that is no text": ({"system": {"role": "system"}, **WANTED, "prompt": ASKED}, "system that is no text"),
    "two system prompts": ({"system": "Route.", "system_prompt": "Be brief.", "prompt": "a", "response": "b"}, "two system prompts"),
    "two system turns": (
        {"system": "Route.", "conversations": [{"from": "system", "value": "Be brief."}, *WANTED["messages"]]},
        "two system prompts",
    ),
    "prose under the name of a source": (
        {"instruction": "Summarise it.", "output": "b", "source": "a whole paragraph of text that the answer is about " * 3},
        "source beside instruction and output",
    ),
    "prose inside of metadata": (
        {"instruction": "Summarise it.", "output": "b", "metadata": {"text": ["a whole paragraph of text that the answer is about " * 3]}},
        "metadata beside instruction and output",
    ),
    "a text that is not the row": ({"text": "It was grey.", "question": "What colour was it?", "answer": "grey"}, "text beside question"),
    "a turn with two texts": ({"conversations": [{"from": "human", "value": "a", "content": "b"}]}, "turn 0 has both content and value"),
}  # fmt: skip


@pytest.mark.parametrize("name", LOST)
def test_what_the_conversion_would_lose_is_named_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    row, reason = LOST[name]
    drop = tmp_path / "drop.jsonl"
    drop.write_text(json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(DropError, match=reason) as caught:
        convert_drop(drop, tmp_path / "new.jsonl")
    assert caught.value.where == f"{drop}:1"
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new.jsonl").exists()


def test_a_column_of_a_table_is_named_too(tmp_path: Path) -> None:
    drop = tmp_path / "pairs.csv"
    drop.write_text("text,text_pair,label\nIt rains.,It is wet.,entailment\n", encoding="utf-8")
    with pytest.raises(DropError, match=r"pairs\.csv:2: has text_pair beside text and label.*write it into text"):
        convert_drop(drop, tmp_path / "new.jsonl")


def test_metadata_is_left_out_and_counted_and_what_is_empty_is_nothing(tmp_path: Path) -> None:
    beside = {"source": "web", "Category": "open_qa", "tags": ["a", "b"], "prompt_id": "7f", "score": 0.5, "Unnamed: 0": 3, "id": "7"}
    rows = [{"prompt": ASKED, "response": SAID, **beside, "history": [], "context": " ", "options": None}, {"prompt": "a", "response": "b"}]
    drop = tmp_path / "drop.jsonl"
    drop.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    converted = convert_drop(drop, tmp_path / "new.jsonl")
    assert converted.left_out == {"Category": 1, "Unnamed: 0": 1, "prompt_id": 1, "score": 1, "source": 1, "tags": 1}
    assert json.loads((tmp_path / "new.jsonl").read_text().splitlines()[0]) == {**WANTED, "id": "7"}


def test_fields_of_a_row_in_the_contracts_own_shape_are_left_to_validation_which_names_them(
    good_lines: list[bytes], tmp_path: Path
) -> None:
    rows = [{**json.loads(line), "context": "It was grey."} for line in good_lines]
    (tmp_path / "data").write_text(json.dumps(rows))
    assert convert_drop(tmp_path / "data", tmp_path / "new.jsonl").left_out == {}
    manifest = validate_drop(tmp_path / "new.jsonl", tmp_path / "out", skill="notes", config=ContractConfig())
    assert [(count.check, count.rows) for count in manifest.findings if count.check == "unknown_field"] == [("unknown_field", len(rows))]


def test_a_value_that_json_does_not_have_is_one_line(tmp_path: Path) -> None:
    write_parquet(tmp_path / "data", [{"text": "a document", "made": datetime(2024, 5, 1, tzinfo=UTC)}])
    with pytest.raises(DropError, match=r"data\[0\]: has a value that JSON does not have \(.*datetime.*\)"):
        convert_drop(tmp_path / "data", tmp_path / "new.jsonl")
    assert not (tmp_path / "new.jsonl").exists()


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


CALLS = [
    ("weather", {"city": "Rome"}),
    ("pay", {"amount": 3, "iban": "DE02"}),
]


def test_a_call_in_parquet_keeps_its_own_arguments_only(tmp_path: Path) -> None:
    """Arrow gives every struct of a column the fields of all of them, as nulls, which a template would print."""
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"do {name}"},
                {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": name, "arguments": arguments}}]},
            ],
            "tools": [
                {"type": "function", "function": {"name": name, "parameters": {"properties": {each: {"type": "x"} for each in arguments}}}}
            ],
        }
        for name, arguments in CALLS
    ]
    write_parquet(tmp_path / "calls.parquet", rows)
    assert '"amount": null' in json.dumps(pq.read_table(tmp_path / "calls.parquet").to_pylist()), "what Arrow does"
    convert_drop(tmp_path / "calls.parquet", tmp_path / "new.jsonl")
    made = [json.loads(line) for line in (tmp_path / "new.jsonl").read_text().splitlines()]
    assert [row["messages"][1]["tool_calls"][0]["function"]["arguments"] for row in made] == [arguments for _, arguments in CALLS]
    assert [list(row["tools"][0]["function"]["parameters"]["properties"]) for row in made] == [list(arguments) for _, arguments in CALLS]


def test_parquet_without_its_package_is_one_line(good_lines: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(tmp_path / "data", [json.loads(line) for line in good_lines])
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # as where `pip install skillstack` brought the engine only
    with pytest.raises(DropError, match=r"needs the package pyarrow.*pip install 'skillstack\[eval\]'"):
        convert_drop(tmp_path / "data", tmp_path / "new.jsonl")
    assert not (tmp_path / "new.jsonl").exists()
