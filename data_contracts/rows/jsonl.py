"""The one reader of JSON Lines, of any size in constant memory: drops, suites, calibration text, buffers and clean rows alike.

A line is physical: what lies between two newline bytes (LF; a CR before it belongs to the line end). No other character ends one:
U+2028, U+2029, U+0085, VT and FS are text. A byte-order mark at the start is skipped; gzip and zstd are recognised by their first
bytes, not by the file's name. Lines keep their numbers whatever is wrong with the ones before.

    read_lines      every line as a value or as what is wrong with it: for a report
    read_objects    every object, with its file and line; the first line that is none raises: for everything else
    read_raw        the bytes of each line, unparsed: to copy rows as they are
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, NoReturn

from data_contracts.errors import DropError, SkillstackError
from data_contracts.rows.compression import CountedReader, open_drop
from data_contracts.rows.file_kinds import HEAD, other_kind
from data_contracts.rows.json_values import strings_of

_BLOCK = 1 << 18
_BOM = b"\xef\xbb\xbf"
#: What validation let through (`contract.max_line_bytes`, `contract.max_depth`) is read by every stage after it.
_LONGEST, _DEEPEST = 1 << 30, 500
#: How the name of such a file ends, wherever a name decides what something is.
ENDINGS = (".jsonl", ".jsonl.gz", ".jsonl.zst")
#: How Python refuses to make an integer of thousands of digits.
_DIGITS = re.compile(r"value has (\d+) digits")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def is_jsonl(name: str) -> bool:
    """Whether a name is one of a file that this reader reads."""
    return name.endswith(ENDINGS)


@dataclass(frozen=True, slots=True)
class Line:
    """One physical line: its parsed object, or what is wrong with it.

    `fault` is (check, reason). `text` is the line as far as it can be shown.
    """

    number: int
    text: str
    value: dict[str, Any] | None
    fault: tuple[str, str] | None
    end: int


class RefusedJsonError(ValueError):
    """A JSON text that Python would accept and this reader does not."""


def _no_constant(literal: str) -> NoReturn:
    raise RefusedJsonError(f"{literal} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise RefusedJsonError(f"the key {twice[:40]!r} occurs twice in one object")
    return found


def _finite(literal: str) -> float:
    value = float(literal)
    if not math.isfinite(value):
        raise RefusedJsonError(f"{literal[:20]} is too large for a number")
    return value


_decode = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite).decode


def parse_line(raw: bytes, number: int, end: int, *, max_depth: int) -> Line:
    """Decode and parse one line that is not blank. Never raises on any bytes."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        shown = raw.decode("utf-8", "replace")
        return Line(number, shown, None, ("encoding", f"is not UTF-8: byte 0x{raw[error.start]:02x} at column {error.start + 1}"), end)
    if "\x00" in text:
        return Line(number, text, None, ("encoding", f"has a NUL byte at column {text.index(chr(0)) + 1}"), end)
    reason = ""
    value: Any = None
    if _depth_bound(text) > max_depth and _depth(text) > max_depth:
        reason = f"is nested deeper than {max_depth} levels"
    else:
        try:
            value = _decode(text)
        except json.JSONDecodeError as error:
            reason = f"is not JSON: {error.msg.removesuffix(' at')} at column {error.colno}"
        except RefusedJsonError as error:
            reason = str(error)
        except RecursionError:
            reason = "is nested too deeply to read"
        except ValueError as error:
            digits = _DIGITS.search(str(error))
            reason = f"has a number of {digits.group(1)} digits, which is too long" if digits else f"cannot be read: {error}"
    if not reason and not isinstance(value, dict):
        reason = f"is a JSON {_json_type(value)}: expected an object"
    if not reason and "\\u" in text:
        reason = _bad_escape(value)
    if reason:
        return Line(number, text, None, ("json", reason), end)
    return Line(number, text, value, None, end)


def _bad_escape(value: Any) -> str:
    """What escapes can spell and no text may hold."""
    for text in strings_of(value):
        if "\x00" in text:
            return "has an escaped NUL (\\u0000)"
        if _LONE_SURROGATE.search(text):
            return "has half of a surrogate pair (an escape such as \\ud83d without its partner)"
    return ""


def _depth_bound(text: str) -> int:
    return text.count("[") + text.count("{")


def _depth(text: str) -> int:
    """Deepest nesting of brackets outside strings."""
    depth = deepest = 0
    quoted = escaped = False
    for char in text:
        if quoted:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                quoted = False
        elif char == '"':
            quoted = True
        elif char in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "]}":
            depth -= 1
    return deepest


def _json_type(value: Any) -> str:
    names = {list: "array", str: "string", bool: "boolean", type(None): "null", int: "number", float: "number"}
    return names.get(type(value), "value")


def read_lines(path: Path, *, max_line_bytes: int, max_depth: int = 64) -> Iterator[Line]:
    """Every line of a file that is not blank, in order. Memory: at most one line (up to `max_line_bytes`) and one block.

    Raises DropError where the file itself cannot be read: missing, a folder, a broken gzip or zstd stream, or another kind of file
    (UTF-16, Parquet, zip, CSV, a JSON array, pretty-printed JSON), which it names.
    """
    with _opened(path) as (stream, counted):
        for number, (raw, length) in enumerate(_split(stream, max_line_bytes), start=1):
            if length > max_line_bytes:
                shown = raw[:200].decode("utf-8", "replace")
                yield Line(number, shown, None, ("json", f"is {length} bytes long: the limit is {max_line_bytes}"), counted.count)
            elif raw.strip():
                yield parse_line(raw, number, counted.count, max_depth=max_depth)


def read_objects(path: Path, *, error: type[SkillstackError] = DropError) -> Iterator[tuple[str, dict[str, Any]]]:
    """(`file:line`, object) of every line that is not blank.

    Raises `error` at the first line that is no JSON object, naming its file and line, and where the file itself cannot be read.
    """
    try:
        for line in read_lines(path, max_line_bytes=_LONGEST, max_depth=_DEEPEST):
            where = f"{path}:{line.number}"
            if line.fault is not None or line.value is None:
                raise error(where, line.fault[1] if line.fault else "is not an object", "write one JSON object per line")
            yield where, line.value
    except DropError as fault:
        raise error(fault.where, fault.what, fault.way_out) from fault.__cause__


def read_raw(path: Path) -> Iterator[bytes]:
    """The bytes of every line that is not blank, without its line end. Raises DropError where the file cannot be read."""
    with _opened(path) as (stream, _):
        yield from (raw for raw, _ in _split(stream, _LONGEST) if raw.strip())


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BufferedReader[Any], CountedReader]]:
    """The unpacked stream behind its byte-order mark. Raises DropError where it is no JSON Lines at all."""
    with open_drop(path) as (stream, counted):
        head = stream.peek(HEAD)[:HEAD]
        if (found := other_kind(head, path)) is not None:
            raise DropError(str(path), found.what, found.way_out)
        if head.startswith(_BOM):
            stream.read(len(_BOM))
        yield stream, counted


def _split(stream: IO[bytes], limit: int) -> Iterator[tuple[bytes, int]]:
    """(bytes, true length) of each line without its line end; of a line over the limit only the beginning is kept."""
    while raw := stream.readline(limit + 2):
        kept = raw[: -2 if raw.endswith(b"\r\n") else -1] if raw.endswith(b"\n") else raw
        length = len(kept)
        if len(raw) == limit + 2 and not raw.endswith(b"\n"):
            while more := stream.readline(_BLOCK):
                length += len(more) - more.endswith(b"\n")
                if more.endswith(b"\n"):
                    break
        yield kept, length
