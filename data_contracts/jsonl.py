"""Read JSON Lines of any size in constant memory; whatever is wrong with a line is a value, never a traceback.

A line is physical: what lies between two newline bytes. Lines keep their numbers whatever is wrong with the ones before.
gzip and zstd are recognised by their first bytes, not by the file's name.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

from data_contracts.compression import CountedReader, open_drop
from data_contracts.errors import DropError
from data_contracts.json_values import strings_of

_BLOCK = 1 << 18
_BOM = b"\xef\xbb\xbf"
_WIDE_BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


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
    """A JSON text that Python would accept and we do not."""


def _no_constant(literal: str) -> NoReturn:
    raise RefusedJsonError(f"{literal} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
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
        except ValueError as error:  # an integer of thousands of digits
            reason = f"has a value that cannot be read: {error}"
    if not reason and not isinstance(value, dict):
        reason = f"is a JSON {_json_type(value)}: expected an object"
    if not reason and "\\u" in text:
        reason = _bad_escape(value)
    if reason:
        return Line(number, text, None, ("json", reason), end)
    return Line(number, text, value, None, end)


def _bad_escape(value: Any) -> str:
    """What escapes can say and no text may hold."""
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
    """Every line of a drop that is not blank, in order. Memory: at most one line (up to `max_line_bytes`) and one block.

    Raises DropError where the file itself cannot be read: missing, a folder, UTF-16, or a broken gzip or zstd stream.
    """
    with open_drop(path) as (stream, counted):
        yield from _lines(stream, counted, path, max_line_bytes, max_depth)


def _lines(stream: IO[bytes], counted: CountedReader, path: Path, max_line_bytes: int, max_depth: int) -> Iterator[Line]:
    for number, (raw, length) in enumerate(_split(stream, max_line_bytes), start=1):
        if number == 1:
            if raw[:2] in _WIDE_BOMS:
                raise DropError(f"{path}:1", "is UTF-16, not UTF-8", "convert it: iconv -f UTF-16 -t UTF-8")
            raw = raw.removeprefix(_BOM)
        if length > max_line_bytes:
            shown = raw[:200].decode("utf-8", "replace")
            yield Line(number, shown, None, ("json", f"is {length} bytes long: the limit is {max_line_bytes}"), counted.count)
        elif raw.strip():
            yield parse_line(raw, number, counted.count, max_depth=max_depth)


def _split(stream: IO[bytes], limit: int) -> Iterator[tuple[bytes, int]]:
    """(bytes, true length) of each line without its line end; of a line over the limit only the beginning is kept."""
    while raw := stream.readline(limit + 2):
        kept = raw.rstrip(b"\r\n")
        length = len(kept)
        if len(raw) == limit + 2 and not raw.endswith(b"\n"):
            while more := stream.readline(_BLOCK):
                length += len(more) - more.endswith(b"\n")
                if more.endswith(b"\n"):
                    break
        yield kept, length
