"""The work space of a validation: rows that are still in, and refused rows, on disk, until their side is decided.

Everything lies in `out_dir/.work` and is moved into place when it is whole; the manifest is written after that. A validation
that was killed leaves no manifest, and the next one clears what is left.
"""

from __future__ import annotations

import errno
import heapq
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_contracts.errors import DropError
from data_contracts.findings import Finding
from data_contracts.manifests import MANIFEST_NAME
from data_contracts.records import Row, row_json

WORK = ".work"
SHOWN = 4000


@contextmanager
def work_folder(out_dir: Path) -> Iterator[Path]:
    """An empty work folder inside `out_dir`, gone afterwards.

    Raises DropError where `out_dir` already holds a finished validation or something else, and where the disk is full.
    """
    if (out_dir / MANIFEST_NAME).exists():
        raise DropError(str(out_dir), "already holds a finished stage", "give a folder that does not exist yet")
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        work = out_dir / WORK
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
    except OSError as error:
        raise DropError(str(out_dir), f"cannot be written: {error.strerror}", "give a folder that you may write to") from error
    try:
        yield work
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DropError(str(out_dir), "the disk is full", "free about three times the size of the drop and run again") from error
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def publish(work: Path, out_dir: Path, names: Iterable[str]) -> None:
    """Move finished files into place, each with its bytes on disk first."""
    for name in names:
        with (work / name).open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(work / name, out_dir / name)


class Staging:
    """Two files in the work folder: rows that are in, and rows that were refused while reading; both in line order."""

    def __init__(self, work: Path) -> None:
        self._staged, self._refused = work / "staged", work / "refused"
        self._in = self._staged.open("w", encoding="utf-8")
        self._out = self._refused.open("w", encoding="utf-8")

    def keep(self, ordinal: int, row: Row) -> None:
        self._in.write(f"{ordinal}\t{row.line}\t{row.shape}\t{row_json(row.value)}\n")

    def refuse(self, line: int, findings: Iterable[Finding], text: str) -> None:
        self._out.write(quarantine_json(line, findings, text) + "\n")

    def close(self) -> None:
        self._in.close()
        self._out.close()

    def kept(self) -> Iterator[tuple[int, int, str, str]]:
        """(ordinal, line, shape, row as JSON), in order."""
        with self._staged.open(encoding="utf-8", newline="\n") as stream:
            for record in stream:
                ordinal, line, shape, text = record[:-1].split("\t", 3)
                yield int(ordinal), int(line), shape, text

    def refused(self) -> Iterator[tuple[int, str]]:
        """(line, quarantine record), in order."""
        with self._refused.open(encoding="utf-8", newline="\n") as stream:
            for record in stream:
                yield json.loads(record)["line"], record


def quarantine_json(line: int, findings: Iterable[Finding], text: str) -> str:
    """One record of quarantine.jsonl."""
    reasons = [{"check": finding.check, "reason": finding.reason} for finding in findings]
    shown = text if len(text) <= SHOWN else text[:SHOWN] + f" … ({len(text)} characters)"
    record: dict[str, Any] = {"line": line, "findings": reasons, "text": shown}
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "replace").decode("utf-8")


def merged(early: Iterator[tuple[int, str]], late: Iterator[tuple[int, str]]) -> Iterator[str]:
    """Quarantine records of both passes in line order."""
    return (record for _, record in heapq.merge(early, late, key=lambda pair: pair[0]))
