"""One reader of JSON Lines: every package takes the same bytes to the same rows, and says the same of what it cannot read."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from data_contracts.config import ContractConfig
from data_contracts.drop.supplied import read_supplied
from data_contracts.errors import EvaluationError, SkillstackError
from data_contracts.matching.heldout_items import read_suite
from data_contracts.rows.jsonl import read_lines, read_objects, read_raw
from evals.config import SuiteConfig
from evals.suites.items import load_items
from osft_engine.data.inputs import read_input
from osft_engine.memory.buffer import load_buffer

#: Every character that `str.splitlines` cuts at and JSON allows inside a string as it is, and the control characters it allows escaped.
STRANGE = "a\u2028b\u2029c\u0085d"
ESCAPED = "e\x0bf\x0cg\x1ch\x1di\x1ej\rk"
ROWS: list[dict[str, Any]] = [
    {
        "prompt": f"join these {number} {STRANGE}{ESCAPED}",
        "answer": f"line {number}",
        "key": str(number),
        "skill": "s",
        "row": {"text": "x"},
    }
    for number in range(4)
]
TEXT = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def objects(path: Path) -> Iterator[dict[str, Any]]:
    return (row for _, row in read_objects(path))


READERS: dict[str, Callable[[Path], list[str]]] = {
    "read_lines": lambda path: [str((line.value or {})["prompt"]) for line in read_lines(path, max_line_bytes=1 << 20)],
    "read_objects": lambda path: [row["prompt"] for row in objects(path)],
    "read_raw": lambda path: [json.loads(raw)["prompt"] for raw in read_raw(path)],
    "suite": lambda path: [item.prompt for item in load_items(SuiteConfig(source=str(path)))],
    "contamination": lambda path: [item.questions[0] for item in read_suite(path, max_line_bytes=1 << 20)],
    "held-out": lambda path: [str(item.value["prompt"]) for item in read_supplied(path, ContractConfig())],
    "osft-input": lambda path: [str(row["prompt"]) for _, row in read_input(str(path))],
    "buffer": lambda path: [ROWS[int(row.key)]["prompt"] for row in load_buffer(path)],
}
FORMS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "plain": ("rows.jsonl", lambda text: text),
    "crlf": ("rows.jsonl", lambda text: text.replace(b"\n", b"\r\n")),
    "byte-order mark": ("rows.jsonl", lambda text: b"\xef\xbb\xbf" + text),
    "gzip": ("rows.jsonl.gz", gzip.compress),
    "zstd with a byte-order mark": ("rows.jsonl.zst", lambda text: zstandard.compress(b"\xef\xbb\xbf" + text)),
    "blank lines, no last line end": ("rows.jsonl", lambda text: text.replace(b"\n", b"\n \n\n").rstrip()),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("form", FORMS)
def test_every_reader_takes_every_form_to_the_same_rows(reader: str, form: str, tmp_path: Path) -> None:
    name, write = FORMS[form]
    path = tmp_path / name
    path.write_bytes(write(TEXT))
    assert READERS[reader](path) == [row["prompt"] for row in ROWS]


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        (TEXT + b'{"prompt": "a", "prompt": "b", "answer": "c"}\n', ":5", "'prompt' occurs twice"),
        (TEXT + b'{"prompt": "a\xff"}\n', ":5", "not UTF-8: byte 0xff"),
        (TEXT + b'["a"]\n', ":5", "is a JSON array"),
        (TEXT + b'\n{"prompt": NaN}\n', ":6", "NaN is not JSON"),
        (TEXT + b'{"prompt": ' + b"[" * 3000 + b"]" * 3000 + b"}\n", ":5", "nested deeper"),
        (TEXT + b'{"prompt": "a", "n": ' + b"7" * 6000 + b"}\n", ":5", "number of 6000 digits"),
        (b"\xff\xfe" + TEXT.decode().encode("utf-16-le"), "", "is UTF-16, not UTF-8"),
        (TEXT.decode().encode("utf-32"), "", "is UTF-32, not UTF-8"),
        (json.dumps(ROWS, indent=1).encode(), "", "is one JSON array"),
        (b"PAR1\x15\x04", "", "is a Parquet file"),
    ],
)
@pytest.mark.parametrize("reader", [name for name in READERS if name not in ("read_lines", "read_raw")])
def test_every_reader_says_the_same_in_one_line_with_file_and_line(
    reader: str, text: bytes, place: str, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(text)
    with pytest.raises(SkillstackError, match=reason) as caught:
        READERS[reader](path)
    assert caught.value.where == f"{path}{place}"
    assert "\n" not in str(caught.value)
    assert caught.value.way_out


def test_the_error_is_of_the_reader_that_asked(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="does not exist"):
        load_items(SuiteConfig(source=str(tmp_path / "away.jsonl")))
