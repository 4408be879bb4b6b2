"""The reader: any bytes are lines with a value or a reason, lines keep their physical numbers, memory does not grow with the file."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_contracts.rows.jsonl import parse_line, read_lines

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.binary(max_size=300).filter(lambda raw: raw.strip()))
@settings(max_examples=500, deadline=None)
def test_any_bytes_are_a_value_or_a_reason(raw: bytes) -> None:
    line = parse_line(raw, 1, 0, max_depth=16)
    assert (line.value is None) == (line.fault is not None)
    if line.fault is not None:
        assert line.fault[0] in ("encoding", "json")
        assert line.fault[1]


@given(st.dictionaries(st.text(max_size=8), ANY_JSON, max_size=4))
@settings(max_examples=300, deadline=None)
def test_what_json_can_say_is_read_as_it_was_meant(value: dict[str, object]) -> None:
    line = parse_line(json.dumps(value).encode(), 1, 0, max_depth=64)
    strange = "\x00" in repr(value) or "\\x00" in repr(value) or "\\ud" in repr(value)
    assert line.value == value or strange


@given(st.lists(st.binary(max_size=30).filter(lambda raw: b"\n" not in raw), max_size=20))
@settings(max_examples=200, deadline=None)
def test_lines_keep_their_physical_numbers(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    path = tmp_path_factory.getbasetemp() / "lines.jsonl"
    path.write_bytes(b"plain\n" + b"\n".join(lines))
    expected = [number for number, raw in enumerate([b"plain", *lines], start=1) if raw.strip()]
    assert [line.number for line in read_lines(path, max_line_bytes=1024)] == expected


def test_a_line_over_the_limit_costs_no_more_than_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    with path.open("wb") as stream:
        stream.write(b'{"text": "before"}\n{"text": "')
        for _ in range(50):
            stream.write(b"x" * 1_000_000)
        stream.write(b'"}\n{"text": "after"}\n')
    tracemalloc.start()
    lines = list(read_lines(path, max_line_bytes=1_000_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [line.fault is None for line in lines] == [True, False, True]
    assert "50000012 bytes" in str(lines[1].fault)
    assert peak < 8_000_000


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    peaks = []
    for rows in (2_000, 20_000):
        path = tmp_path / f"{rows}.jsonl"
        path.write_text((json.dumps({"text": "word " * 40}) + "\n") * rows, encoding="utf-8")
        tracemalloc.start()
        assert sum(1 for _ in read_lines(path, max_line_bytes=1_000_000)) == rows
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]
