"""What a file is that is not JSON Lines, by its first bytes: one sentence and the way out, instead of an error for every line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

#: Bytes that are looked at.
HEAD = 65_536


class OtherKind(NamedTuple):
    """`what` completes "the file ...". `way_out` is a command or a place to look. `name` is for those who can read it all the same."""

    what: str
    way_out: str
    name: str = ""


def _encoding(name: str) -> Callable[[str], OtherKind]:
    return lambda file: OtherKind(f"is {name}, not UTF-8", f"convert it: iconv -f {name} -t UTF-8 {file}", name)


def _table(name: str) -> Callable[[str], OtherKind]:
    return lambda file: OtherKind(f"is a {name} file, not JSON Lines", f"{CONVERT}, or export it as one JSON object per line", name)


def _packed(name: str) -> Callable[[str], OtherKind]:
    return lambda file: OtherKind(f"is a {name} file, not JSON Lines", "unpack it; .jsonl, .jsonl.gz and .jsonl.zst are read as they are")


CONVERT = "for a drop: skillstack validate DROP --convert NEW.jsonl"
#: UTF-32 stands before UTF-16, whose byte-order mark begins UTF-32's.
_BEGINNINGS: tuple[tuple[bytes, Callable[[str], OtherKind]], ...] = (
    (b"\xff\xfe\x00\x00", _encoding("UTF-32")),
    (b"\x00\x00\xfe\xff", _encoding("UTF-32")),
    (b"\xff\xfe", _encoding("UTF-16")),
    (b"\xfe\xff", _encoding("UTF-16")),
    (b"PAR1", _table("Parquet")),
    (b"ARROW1", _table("Arrow")),
    (b"PK\x03\x04", _packed("zip")),
    (b"PK\x05\x06", _packed("zip")),
    (b"BZh", _packed("bzip2")),
    (b"\xfd7zXZ\x00", _packed("xz")),
    (b"7z\xbc\xaf\x27\x1c", _packed("7-Zip")),
    (b"\x04\x22\x4d\x18", _packed("LZ4")),
    (b"SQLite format 3\x00", _packed("SQLite")),
    (
        b"version https://git-lfs",
        lambda file: OtherKind("is a Git LFS pointer, not the data", f"fetch the data: git lfs pull --include {file}"),
    ),
)
#: The same without a byte-order mark: what an opening bracket looks like, (form, name).
_UNMARKED = (
    (re.compile(rb"[{\[]\x00\x00\x00"), "UTF-32LE"),
    (re.compile(rb"\x00\x00\x00[{\[]"), "UTF-32BE"),
    (re.compile(rb"[{\[]\x00[^\x00]\x00"), "UTF-16LE"),
    (re.compile(rb"\x00[{\[]\x00[^\x00]"), "UTF-16BE"),
)
_NAME = r'"?[A-Za-z_][\w .-]{0,63}"?'
_HEADER = re.compile(rf"{_NAME}(?:([,;\t]){_NAME})(?:\1{_NAME}){{0,98}}")
#: A list of turns or of numbers on each line is no array of rows.
_TURNS = re.compile(r'\[\s*(?:\{\s*"(?:role|from)"|[^{\s])')


def other_kind(head: bytes, path: Path) -> OtherKind | None:
    """`head`: the first bytes of the unpacked file, at most HEAD. None where it may be JSON Lines."""
    for beginning, kind in _BEGINNINGS:
        if head.startswith(beginning):
            return kind(path.name)
    for form, name in _UNMARKED:
        if form.match(head):
            return _encoding(name)(path.name)
    if head[257:262] == b"ustar":
        return _packed("tar")(path.name)
    text = head.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace").lstrip()
    return _json_kind(text, path.name, cut=len(head) >= HEAD) or _text_kind(text)


def _json_kind(text: str, file: str, *, cut: bool) -> OtherKind | None:
    """JSON that is not one object per line."""
    line, end, rest = text.partition("\n")
    following = next((each for each in rest.split("\n") if each.strip()), "")
    if text.startswith("[") and not _is_a_row_each(line, whole=bool(end) or not cut, following=following):
        return OtherKind("is one JSON array, not one JSON object per line", f"write a row per line: jq -c '.[]' {file}; {CONVERT}", "array")
    if text.startswith("{") and (line.strip() == "{" or following[:1] in (" ", "\t")):
        return OtherKind(
            "is pretty-printed JSON: one object over several lines", f"write each object on one line: jq -c . {file}; {CONVERT}", "pretty"
        )
    return None


def _is_a_row_each(line: str, *, whole: bool, following: str) -> bool:
    """Whether an array on the first line is that line's own, so that errors are reported for each line."""
    if not whole:
        return _TURNS.match(line) is not None
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return line.strip() != "[" and _TURNS.match(line) is not None
    return bool(following)


def _text_kind(text: str) -> OtherKind | None:
    """Text that is no JSON at all."""
    line, _, rest = text.partition("\n")
    if re.match(r"(?i)<!doctype html|<html", text):
        return OtherKind("is an HTML page, not JSON Lines", "look into it: it is often an error page or a log-in page")
    if _HEADER.fullmatch(line.rstrip("\r")) and not rest.lstrip().startswith(("{", "[")):
        return _table("TSV" if "\t" in line else "CSV")("")
    return None
