"""Training data in the forms people have it, down to the rows the engine reads; what cannot be read is named and nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pandas as pd
import pytest

from data_contracts.errors import DropError
from data_contracts.manifests import DropManifest, read_manifest
from osft_engine.data.inputs import RowKind, engine_row, read_input, write_drop

MESSAGES = [[{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"{n}!"}] for n in range(8)]
PROCESSED = [{"input_ids": [5, 6, 7 + n], "labels": [-100, -100, 7 + n]} for n in range(3)]
ENDINGS = [".jsonl", ".json", ".csv", ".parquet"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def _write(path: Path, rows: list[dict[str, Any]]) -> str:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".csv":
        pd.DataFrame([{name: json.dumps(value) for name, value in row.items()} for row in rows]).to_csv(path, index=False)
    else:
        pd.DataFrame(rows).to_parquet(path)
    return str(path)


def _read(data_path: str, kind: RowKind = "messages") -> list[dict[str, Any]]:
    return [engine_row(place, row, kind, "text") for place, row in read_input(data_path)]


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_format_gives_the_same_rows(tmp_path: Path, ending: str) -> None:
    conversations = [{"messages": messages} for messages in MESSAGES]
    assert _read(_write(tmp_path / f"chats{ending}", conversations)) == conversations
    assert _read(_write(tmp_path / f"ids{ending}", PROCESSED), "processed") == PROCESSED


def test_a_call_in_a_table_keeps_its_own_arguments_only(tmp_path: Path) -> None:
    calls = [{"name": "weather", "arguments": {"city": "Rome"}}, {"name": "pay", "arguments": {"amount": 3}}]
    rows = [
        {"messages": [{"role": "user", "content": "do it"}, {"role": "assistant", "content": "", "tool_calls": [{"function": call}]}]}
        for call in calls
    ]
    found = _read(_write(tmp_path / "calls.parquet", rows))
    assert [row["messages"][1]["tool_calls"][0]["function"] for row in found] == calls


def test_a_dataset_is_read_from_its_folder_or_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"messages": messages} for messages in MESSAGES]
    folder = tmp_path / "chats"
    folder.mkdir()
    _write(folder / "train.jsonl", rows)
    assert _read(str(folder)) == rows

    asked: list[tuple[str, str]] = []

    def hub(name: str, *, split: str) -> datasets.Dataset:  # there is no hub here: what is asked of it, and what it would give
        asked.append((name, split))
        return datasets.Dataset.from_list(rows)

    monkeypatch.setattr(datasets, "load_dataset", hub)
    assert _read("somebody/chats") == rows
    assert asked == [("somebody/chats", "train")]


def test_a_dataset_that_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(DropError, match=r"^somebody/chats: cannot be loaded: .*somebody/chats.*\(check the file, or the dataset's name"):
        _read("somebody/chats")


def test_a_table_that_is_broken_says_why(tmp_path: Path) -> None:
    (tmp_path / "data.parquet").write_bytes(b"not a table")
    with pytest.raises(DropError, match=r"data\.parquet: cannot be loaded: .*(magic bytes|Parquet)"):
        _read(str(tmp_path / "data.parquet"))


@pytest.mark.parametrize(
    ("row", "kind", "message"),
    [
        ({"question": "?"}, "messages", r"row: has no messages \(it has \['question'\]"),
        ({"messages": "[{"}, "messages", r"row: messages is text that is not JSON"),
        ({"body": "a"}, "documents", r"row: has no text in the column 'text' \(it has \['body'\]; set document_column_name\)"),
        ({"input_ids": [1, 2], "labels": [1]}, "processed", r"row: needs input_ids and labels of equal length"),
        ({"input_ids": "[1, 2", "labels": "[1, 2]"}, "processed", r"row: input_ids is text that is not JSON"),
        ({"input_ids": [1, "b"], "labels": [1, 2]}, "processed", r"row: input_ids\[1\] is 'b' \(token ids are whole numbers from 0\)"),
        ({"input_ids": [1, 2], "labels": [-100, 3]}, "processed", r"row: labels\[1\] is 3 beside the id 2"),
    ],
)
def test_a_row_that_does_not_fit_says_what_it_has(row: dict[str, Any], kind: RowKind, message: str) -> None:
    with pytest.raises(DropError, match=message):
        engine_row("row", row, kind, "text")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data.txt", "x", r"unknown ending \.txt"),
        ("data.json", '{"messages": []}', r"data\.json: is not a JSON array"),
        ("data.json", '[{"messages": []}, 7]', r"data\.json\[1\]: is 7, not a JSON object"),
        ("data.json", "[", r"data\.json: is not JSON"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DropError, match=message):
        list(read_input(str(tmp_path / name)))


def test_rows_may_be_written_over_the_file_they_come_from(tmp_path: Path) -> None:
    source = _write(tmp_path / "clean.jsonl", [{"text": f"document {n}"} for n in range(2000)])  # more than one read's worth
    rows = (engine_row(place, row, "documents", "text") for place, row in read_input(source))
    write_drop(rows, tmp_path, source=source, skill="reading")
    assert len(_read(source, "documents")) == 2000
    manifest = read_manifest(tmp_path, DropManifest)
    assert (manifest.skill, manifest.contract, manifest.rows_clean) == ("reading", "none", 2000)


@pytest.mark.parametrize("bad", [{"text": "half a pair: \ud83d"}, {"text": {1, 2}}, None])
def test_a_row_that_cannot_be_written_leaves_what_was_there(tmp_path: Path, bad: dict[str, Any] | None) -> None:
    before = _write(tmp_path / "clean.jsonl", [{"text": "kept"}])
    rows = [{"text": "new"}, bad] if bad is not None else []
    with pytest.raises(DropError, match=r"data, row 2: cannot be written as JSON|data: has no rows"):
        write_drop(rows, tmp_path, source="data")
    assert _read(before, "documents") == [{"text": "kept"}]
    assert [path.name for path in tmp_path.iterdir()] == ["clean.jsonl"]
