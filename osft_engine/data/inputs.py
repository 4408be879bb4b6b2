"""Training data as people have it, to the rows the engine reads: conversations, documents, or token ids with labels.

JSON Lines (`.jsonl`, `.jsonl.gz`, `.jsonl.zst`) and `.json` are read here; `.parquet`, `.csv`, folders and Hugging Face dataset names go
through `datasets`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from data_contracts.errors import DropError
from data_contracts.files import replacing
from data_contracts.manifests import DropManifest, file_ref, write_manifest
from data_contracts.rows.json_values import without_filling
from data_contracts.rows.jsonl import is_jsonl, read_objects

RowKind = Literal["messages", "processed", "documents"]
CLEAN_NAME = "clean.jsonl"
_TABLES = {".parquet": "parquet", ".csv": "csv"}
_NOT_LEARNED = -100
_BESIDE = ("tools", "unmask")  # of a conversation


def read_input(data_path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(place, row) of a file or of the `train` split of a Hugging Face dataset. Raises DropError where it cannot be read."""
    path = Path(data_path)
    if is_jsonl(data_path):
        yield from read_objects(path)
    elif path.suffix == ".json":
        yield from _json_rows(path)
    elif path.suffix in _TABLES:
        if not path.is_file():
            raise DropError(data_path, "is not there", "give an existing file")
        yield from _dataset_rows(data_path, _TABLES[path.suffix], {"data_files": data_path})
    elif path.is_file():
        raise DropError(
            data_path,
            f"has the unknown ending {path.suffix or '(none)'}",
            "give .jsonl, .jsonl.gz, .jsonl.zst, .json, .parquet, .csv or a dataset name",
        )
    else:
        yield from _dataset_rows(data_path, data_path, {})


def _json_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DropError(str(path), f"cannot be read: {error.strerror}", "give an existing file") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DropError(str(path), f"is not JSON: {error}", "one JSON array of objects, or one object per line in a .jsonl file") from error
    if not isinstance(rows, list):
        raise DropError(str(path), "is not a JSON array", "one JSON array of objects, or one object per line in a .jsonl file")
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            raise DropError(f"{path.name}[{index}]", f"is {_shown(row)}, not a JSON object", "every entry of the array is one example")
        yield f"{path.name}[{index}]", row


def _dataset_rows(shown: str, name: str, arguments: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        from datasets import load_dataset
        from datasets.exceptions import DatasetGenerationError, DatasetsError
    except ImportError as error:  # a trainer's image holds no more than the engine imports
        raise DropError(shown, "needs the package datasets", "pip install 'skillstack[eval]', or give .jsonl or .json") from error
    try:
        table = load_dataset(name, split="train", **arguments)
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:  # offline is a ConnectionError, an OSError
        reason = error.__cause__ if isinstance(error, DatasetGenerationError) and error.__cause__ else error
        what = (str(reason).splitlines() or [type(reason).__name__])[0]
        raise DropError(
            shown, f"cannot be loaded: {what}", "check the file, or the dataset's name and the network; a dataset needs a train split"
        ) from error
    yield from ((f"{shown}[{index}]", without_filling(row)) for index, row in enumerate(table))


def engine_row(place: str, row: Mapping[str, Any], kind: RowKind, column: str) -> dict[str, Any]:
    """One input row as the engine reads it. Raises DropError where the wanted column is missing or of another type."""
    if kind == "documents":
        if not isinstance(row.get(column), str):
            raise DropError(place, f"has no text in the column {column!r}", f"it has {sorted(row)}; set document_column_name")
        return {"text": row[column]}
    if kind == "processed":
        return _processed_row(place, _nested(place, row, "input_ids"), _nested(place, row, "labels"))
    return _conversation(place, row) | {name: value for name in _BESIDE if (value := _nested(place, row, name)) is not None}


def _conversation(place: str, row: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(row.get("prompt"), str) and isinstance(row.get("completion"), str) and row.get("messages") is None:
        return {"prompt": row["prompt"], "completion": row["completion"]}
    messages = _nested(place, row, "messages")
    if not isinstance(messages, list):
        raise DropError(place, "has no messages", f"it has {sorted(row)}; documents need is_pretraining, token ids use_processed_dataset")
    return {"messages": messages}


def _nested(place: str, row: Mapping[str, Any], name: str) -> Any:
    """The value of a column that holds lists; tables without nested columns hold it as JSON text."""
    value = row.get(name)
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        raise DropError(place, f"{name} is text that is not JSON: {error.msg}", f"write {name} as a JSON array") from error


def _processed_row(place: str, ids: Any, labels: Any) -> dict[str, Any]:
    if not isinstance(ids, list) or not isinstance(labels, list) or len(ids) != len(labels):
        raise DropError(place, "needs input_ids and labels of equal length", "labels are token ids, -100 where nothing is learned")
    for index, (token, label) in enumerate(zip(ids, labels, strict=True)):
        if type(token) is not int or token < 0:
            raise DropError(place, f"input_ids[{index}] is {_shown(token)}", "token ids are whole numbers from 0")
        if label not in (token, _NOT_LEARNED):  # the engine shifts by itself: another target than the next id would be lost
            raise DropError(
                place, f"labels[{index}] is {_shown(label)} beside the id {token}", "give the id itself, or -100 where nothing is learned"
            )
    return {"input_ids": ids, "labels": labels}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def write_drop(rows: Iterable[Mapping[str, Any]], folder: Path, *, source: str, skill: str = "api") -> Path:
    """Rows as a drop that the engine takes: clean.jsonl and its manifest. Its contract is `none`: the rows were not validated.

    Written in one move each: a folder that several machines write alike, or that `rows` are still read from, is never half written.
    Raises DropError where there are no rows, or one cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DropError(str(folder), f"cannot be made: {error.strerror}", "give another folder") from error
    clean = folder / CLEAN_NAME
    count = _write_rows(rows, clean, source)
    ref = file_ref(folder, clean)
    manifest = DropManifest(
        files={"clean": ref},
        skill=skill,
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


def _write_rows(rows: Iterable[Mapping[str, Any]], clean: Path, source: str) -> int:
    count = 0
    with replacing(clean) as temporary:
        with temporary.open("wb") as stream:
            for count, row in enumerate(rows, start=1):
                stream.write(_line(row, f"{source}, row {count}"))
        if count == 0:
            raise DropError(source, "has no rows", "give data to train on")
    return count


def _line(row: Mapping[str, Any], place: str) -> bytes:
    try:
        return (json.dumps(dict(row), ensure_ascii=False) + "\n").encode()
    except (TypeError, UnicodeEncodeError) as error:  # dates and bytes of a table; half a surrogate pair
        raise DropError(place, f"cannot be written as JSON: {error}", "correct the row") from error
