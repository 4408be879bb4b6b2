"""`skillstack validate DROP --convert NEW.jsonl`: rows of other files and shapes as the JSON Lines that a drop is. Nothing is guessed.

Read are JSON Lines, one JSON array, pretty-printed objects, Parquet, CSV and TSV, in UTF-8, UTF-16 or UTF-32. The first row whose
meaning is not plain, or of which a part would be lost, ends the conversion with its place and the reason, and nothing is written.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from data_contracts.errors import DropError
from data_contracts.files import write_atomically
from data_contracts.manifests import Record
from data_contracts.rows.compression import open_drop
from data_contracts.rows.file_kinds import HEAD, other_kind
from data_contracts.rows.json_values import without_filling
from data_contracts.rows.jsonl import read_objects
from data_contracts.rows.other_shapes import as_chat, name_shape
from data_contracts.rows.records import row_json

_BLANKS = " \t\r\n"


class Conversion(Record):
    """What was written: rows by what they were before, and the metadata that is not in them any more: rows by name of the field."""

    out: Path
    rows: int
    shapes: dict[str, int]
    left_out: dict[str, int] = Field(default_factory=dict)


def convert_drop(source: Path, out: Path) -> Conversion:
    """Write the rows of `source` to the new file `out`. Raises DropError at the first row whose meaning is not plain."""
    if out.exists():
        raise DropError(str(out), "exists already", "name a new file")
    lines: list[str] = []
    shapes: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    for where, row in _rows(source):
        shape = name_shape(row)
        if shape is None and ("text" in row or ("prompt" in row and "completion" in row and isinstance(row["prompt"], str))):
            kept: Mapping[str, Any] = row
        else:
            try:
                chat = as_chat(row)
            except ValueError as error:
                raise DropError(where, str(error), "correct the row, or write it as messages yourself") from None
            kept = chat.value
            left_out.update(chat.left_out)
        shapes[(shape or "is a row of a drop").split(":")[0]] += 1
        lines.append(_line(kept, where))
    if not lines:
        raise DropError(str(source), "has no rows", "check the export that made it")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, "".join(line + "\n" for line in lines))
    return Conversion(out=out, rows=len(lines), shapes=dict(shapes), left_out=dict(sorted(left_out.items())))


def _line(row: Mapping[str, Any], where: str) -> str:
    try:
        return row_json(row)
    except TypeError as error:  # a table's dates and bytes
        raise DropError(where, f"has a value that JSON does not have ({error})", "write it as text, or remove its column") from None


def _rows(source: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with open_drop(source) as (stream, _):
        kind = other_kind(stream.peek(HEAD)[:HEAD], source)
        name = kind.name if kind else ""
        data = b"" if name in ("", "Parquet") else stream.read()
    if kind is None:
        yield from read_objects(source)
    elif name == "Parquet":
        yield from _parquet_rows(source)
    elif name in ("array", "pretty", "CSV", "TSV"):
        yield from _text_rows(data.decode("utf-8-sig"), name, source)
    elif name.startswith("UTF"):
        text = data.decode(name).removeprefix("\ufeff")
        inner = other_kind(text.encode()[:HEAD], source)
        yield from _text_rows(text, inner.name if inner else "", source)
    else:
        raise DropError(str(source), kind.what, kind.way_out)


def _text_rows(text: str, name: str, source: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if name in ("CSV", "TSV"):
        table = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if name == "TSV" else ",", strict=True)
        for row in table:
            yield f"{source}:{table.line_num}", _object(row, f"{source}:{table.line_num}")
        return
    for place, value in _values(text, source):
        if isinstance(value, list) and name == "array":
            yield from ((f"{source}[{index}]", _object(row, f"{source}[{index}]")) for index, row in enumerate(value))
        else:
            yield place, _object(value, place)


def _values(text: str, source: Path) -> Iterator[tuple[str, Any]]:
    """The JSON values of a text, one after another, however they are laid out."""
    decode, place, number = json.JSONDecoder().raw_decode, 0, 0
    while (place := _skipped(text, place)) < len(text):
        try:
            value, place = decode(text, place)
        except (ValueError, RecursionError) as error:
            line = text.count("\n", 0, getattr(error, "pos", place)) + 1
            raise DropError(f"{source}:{line}", f"is not JSON: {getattr(error, 'msg', error)}", "correct the file") from None
        yield f"{source}[{number}]", value
        number += 1


def _skipped(text: str, place: int) -> int:
    while place < len(text) and text[place] in _BLANKS:
        place += 1
    return place


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or None in value:
        raise DropError(where, "is no row of named fields", "correct the row")
    return {str(name): part for name, part in value.items() if part is not None}


def _parquet_rows(source: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:  # `pip install skillstack` brings the engine and the contracts only
        way_out = "pip install 'skillstack[eval]', or export the data as .jsonl or .csv"
        raise DropError(str(source), "is Parquet, which needs the package pyarrow", way_out) from error
    try:
        table = pyarrow.parquet.ParquetFile(source)
        for batch in table.iter_batches():
            for number, row in enumerate(batch.to_pylist()):
                yield f"{source}[{number}]", _object(without_filling(row), f"{source}[{number}]")
    except pyarrow.ArrowException as error:
        raise DropError(str(source), f"cannot be read as Parquet: {str(error).splitlines()[0][:160]}", "export it again") from error
