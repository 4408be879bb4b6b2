"""Training data as people have it, to the rows the engine reads: conversations, documents, or token ids with labels.

`.jsonl` and `.json` are read with the standard library; `.parquet`, `.csv` and Hugging Face dataset names go through `datasets`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from data_contracts.errors import DropError
from data_contracts.manifests import DropManifest, file_ref, write_manifest
from osft_engine.examples import read_rows

RowKind = Literal["messages", "processed", "documents"]
_TABLES = {".parquet": "parquet", ".csv": "csv"}


def read_input(data_path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(place, row) of a file or of the `train` split of a Hugging Face dataset. Raises DropError where it cannot be read."""
    path = Path(data_path)
    if path.suffix == ".jsonl":
        yield from read_rows(path)
    elif path.suffix == ".json":
        yield from _json_rows(path)
    elif path.suffix in _TABLES:
        if not path.is_file():
            raise DropError(data_path, "is not there", "give an existing file")
        yield from _dataset_rows(data_path, _TABLES[path.suffix], {"data_files": data_path})
    elif path.exists():
        raise DropError(
            data_path, f"has the unknown ending {path.suffix or '(none)'}", "give .jsonl, .json, .parquet, .csv or a dataset name"
        )
    else:
        yield from _dataset_rows(data_path, data_path, {})


def _json_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DropError(str(path), f"cannot be read: {error.strerror}", "give an existing file") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DropError(str(path), f"is not JSON: {error}", "one JSON array of objects, or one object a line in a .jsonl file") from error
    if not isinstance(rows, list):
        raise DropError(str(path), "is not a JSON array", "one JSON array of objects, or one object a line in a .jsonl file")
    yield from ((f"{path.name}[{index}]", row) for index, row in enumerate(rows))


def _dataset_rows(shown: str, name: str, arguments: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    from datasets import load_dataset

    try:
        table = load_dataset(name, split="train", **arguments)
    except (OSError, ValueError, RuntimeError) as error:  # datasets' own errors are subclasses of these
        raise DropError(
            shown, f"cannot be loaded: {str(error).splitlines()[0]}", "check the file, or the dataset's name and the network"
        ) from error
    yield from ((f"{shown}[{index}]", row) for index, row in enumerate(table))


def engine_row(place: str, row: Mapping[str, Any], kind: RowKind, column: str) -> dict[str, Any]:
    """One input row as the engine reads it. Raises DropError where the wanted column is missing or of another type."""
    if kind == "documents":
        if not isinstance(row.get(column), str):
            raise DropError(place, f"has no text in the column {column!r}", f"it has {sorted(row)}; set document_column_name")
        return {"text": row[column]}
    if kind == "processed":
        ids, labels = row.get("input_ids"), row.get("labels")
        if not isinstance(ids, list) or not isinstance(labels, list) or len(ids) != len(labels):
            raise DropError(place, "needs input_ids and labels of equal length", "labels are token ids, -100 where nothing is learned")
        return {"input_ids": ids, "labels": labels}
    messages = row.get("messages")
    if isinstance(messages, str):  # tables without nested columns hold it as JSON
        try:
            messages = json.loads(messages)
        except json.JSONDecodeError as error:
            raise DropError(place, f"messages is text that is not JSON: {error.msg}", "write messages as a JSON array") from error
    if not isinstance(messages, list):
        raise DropError(place, "has no messages", f"it has {sorted(row)}; documents need is_pretraining, token ids use_processed_dataset")
    return {"messages": messages}


def write_drop(rows: Iterable[Mapping[str, Any]], folder: Path, *, source: str) -> Path:
    """Rows as a drop that the engine takes: clean.jsonl and its manifest. They have not been through a data contract, and it says so."""
    folder.mkdir(parents=True, exist_ok=True)
    clean = folder / "clean.jsonl"
    count = 0
    with clean.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps(dict(row), ensure_ascii=False) + "\n")
            count += 1
    if count == 0:
        raise DropError(source, "has no rows", "give data to train on")
    ref = file_ref(folder, clean)
    manifest = DropManifest(
        files={"clean": ref},
        skill="api",
        source=Path(source).name,
        source_sha256=ref.sha256,
        contract="none",
        contract_version="0",
        rows_read=count,
        rows_clean=count,
        rows_heldout=0,
        rows_sealed=0,
        rows_quarantined=0,
    )
    write_manifest(folder, manifest)
    return folder
