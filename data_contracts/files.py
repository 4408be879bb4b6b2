"""Atomic writes: a file is written beside its place, flushed to the disk, then renamed over what was there."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path, *, one_writer: bool = False) -> Iterator[Path]:
    """A file to write to; it takes the place of `path` when the body ends, and is removed when the body raises.

    one_writer: no other process writes `path` at the same time. The temporary file then has a fixed name, so that what a kill left of a
    large file is overwritten by the next attempt and does not stay.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if one_writer:
        temporary = path.with_name(f".{path.name}.partial")
    else:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.fchmod(handle, 0o644)  # mkstemp gives 0600; manifests and reports are read by others
        os.close(handle)
        temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, text: str) -> None:
    """Write a text as UTF-8: a reader finds all of it, or what was there before."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write rows as JSON Lines, atomically; returns the path."""
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path
