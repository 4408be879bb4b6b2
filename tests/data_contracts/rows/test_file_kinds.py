"""A file that is no JSON Lines is named by its first bytes; JSON Lines with odd first rows are not taken for another kind."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from data_contracts.rows.file_kinds import HEAD, other_kind


def _tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.jsonl"))
    return out.getvalue()


KINDS: dict[str, tuple[bytes, str]] = {
    "UTF-32 with a mark": ('{"a": 1}'.encode("utf-32"), "is UTF-32, not UTF-8"),
    "UTF-16 big-endian": ("\ufeff{}".encode("utf-16-be"), "is UTF-16, not UTF-8"),
    "UTF-16 without a mark": ('{"a": 1}'.encode("utf-16-be"), "is UTF-16BE, not UTF-8"),
    "UTF-32 without a mark": ('[{"a": 1}]'.encode("utf-32-le"), "is UTF-32LE, not UTF-8"),
    "Arrow": (b"ARROW1\x00\x00", "is a Arrow file"),
    "tar": (_tar(), "is a tar file"),
    "LZ4": (b"\x04\x22\x4d\x18data", "is a LZ4 file"),
    "SQLite": (b"SQLite format 3\x00", "is a SQLite file"),
    "semicolons": (b"prompt;completion\r\na;b\r\n", "is a CSV file"),
    "a mark before HTML": (b"\xef\xbb\xbf <HTML>", "is an HTML page"),
    "array over several lines": (b'[\n{"a": 1}\n]', "is one JSON array"),
    "array that is longer than what is looked at": (b'[{"text": "' + b"x" * HEAD, "is one JSON array"),
    "objects over several lines": (b'{"a": 1,\n "b": 2}', "is pretty-printed JSON"),
}


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_is_named_with_a_way_out(name: str) -> None:
    head, what = KINDS[name]
    kind = other_kind(head[:HEAD], Path("data"))
    assert kind is not None
    assert kind.what.startswith(what)
    assert kind.way_out


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        '{"text": "a"}\n{"text": "b"}\n',
        '{"text": "a, b; c"}',
        '[{"role": "user", "content": "q"}]\n[{"role": "user", "content": "q"}]\n',
        '["a", "b"]\n{"text": "b"}\n',
        '{"text": "<html>"}',
        "{oops\n",
        "not json at all\n",
        "a sentence, with a comma, and more words than a header would have, as sentences do\n{}",
        json.dumps({"text": "PAR1"}),
    ],
)
def test_what_may_be_json_lines_is_read_line_by_line(text: str) -> None:
    assert other_kind(text.encode(), Path("data")) is None
