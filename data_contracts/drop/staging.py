"""The work space of a validation: rows that are still in, and rows that were refused, on disk, until their side is decided.

Everything lies in `out_dir/.work` and is moved into place when it is complete; the manifest is written after that. A validation
that was killed leaves no manifest, and the next one clears what is left.
"""

from __future__ import annotations

import heapq
import json
import os
import shutil
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from data_contracts.errors import DropError
from data_contracts.full_disk import full_disk_as
from data_contracts.manifests import MANIFEST_NAME
from data_contracts.privacy.masking import mask_value, one_line, shown
from data_contracts.rows.findings import Finding
from data_contracts.rows.records import Row, row_json
from data_contracts.rows.words import WordBatch

WORK = ".work"
#: One place in so many is remembered, to find a row again without reading the file from its beginning.
_STRIDE = 16


@contextmanager
def work_folder(out_dir: Path) -> Iterator[Path]:
    """An empty work folder inside `out_dir`, gone afterwards.

    Raises DropError where `out_dir` already holds a finished stage, cannot be written, or the disk is full.
    """
    if (out_dir / MANIFEST_NAME).exists():
        raise DropError(str(out_dir), "already holds a finished stage", "give a folder that does not exist yet")
    work = out_dir / WORK
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
    except OSError as error:
        raise DropError(str(out_dir), f"cannot be written: {error.strerror}", "give a folder that you may write to") from error
    try:
        with full_disk_as(DropError, out_dir, "free about four times the size of the drop and run again"):
            yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def publish(work: Path, out_dir: Path, names: Iterable[str]) -> None:
    """Move finished files into place, each with its bytes on disk first."""
    for name in names:
        with (work / name).open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(work / name, out_dir / name)


class Staging:
    """Files in the work folder: rows that are in, rows that were refused while reading, and all rows' words; in line order."""

    def __init__(self, work: Path) -> None:
        self._staged, self._refused = work / "staged", work / "refused"
        self._spooled = work / "words"
        self._in, self._out, self._words = self._staged.open("wb"), self._refused.open("wb"), self._spooled.open("wb")
        self._count = self._end = 0
        self._ordinals, self._offsets = array("Q"), array("Q")

    def keep(self, ordinal: int, row: Row) -> None:
        if self._count % _STRIDE == 0:
            self._ordinals.append(ordinal)
            self._offsets.append(self._end)
        self._end += self._in.write(f"{ordinal}\t{row.line}\t{row_json(row.value)}\n".encode())
        self._count += 1

    def refuse(self, line: int, findings: Iterable[Finding], text: str, row: Row | None = None) -> None:
        self._out.write(quarantine_json(line, findings, row.value if row is not None else text).encode())

    def close(self) -> None:
        self._in.close()
        self._out.close()
        self._words.close()

    def keep_words(self, first: int, words: WordBatch) -> None:
        """The words of a batch of rows, so that the second pass need not take the text apart again."""
        sizes = np.array([first, len(words.hashes), len(words.pieces), len(words.rows)], np.int64)
        for part in (sizes, words.hashes, words.pieces, words.rows, words.contents, words.owners):
            self._words.write(part.tobytes())

    def words(self) -> Iterator[tuple[int, WordBatch]]:
        """(ordinal of the first row, words), batch by batch."""
        with self._spooled.open("rb") as stream:
            while head := stream.read(32):
                first, *sizes = np.frombuffer(head, np.int64).tolist()
                hashes, pieces, rows, contents, owners = (stream.read(8 * size) for size in (*sizes, sizes[1] - 1, sizes[1] - 1))
                yield (
                    first,
                    WordBatch(
                        np.frombuffer(hashes, np.uint64),
                        np.frombuffer(pieces, np.int64),
                        np.frombuffer(rows, np.int64),
                        np.frombuffer(contents, np.uint64),
                        np.frombuffer(owners, np.int64),
                    ),
                )

    def kept(self) -> Iterator[tuple[int, int, bytes]]:
        """(ordinal, line, row as JSON), in order."""
        with self._staged.open("rb") as stream:
            for record in stream:
                ordinal, line, text = record[:-1].split(b"\t", 2)
                yield int(ordinal), int(line), text

    def refused(self) -> Iterator[tuple[int, str]]:
        """(line, quarantine record), in order."""
        with self._refused.open("rb") as stream:
            for record in stream:
                yield json.loads(record)["line"], record.decode()

    def value(self, ordinal: int) -> Mapping[str, Any]:
        """One kept row, read back."""
        place = bisect_right(self._ordinals, ordinal) - 1
        with self._staged.open("rb") as stream:
            stream.seek(self._offsets[place])
            for record in stream:
                number, _, text = record.split(b"\t", 2)
                if int(number) == ordinal:
                    value: Mapping[str, Any] = json.loads(text)
                    return value
        raise KeyError(ordinal)


def quarantine_json(line: int, findings: Iterable[Finding], original: str | Mapping[str, Any]) -> str:
    """One record of quarantine.jsonl, a line. A row that could be read is masked value by value, other text as it stands."""
    reasons = [{"check": finding.check, "reason": one_line(finding.reason)} for finding in findings]
    text = shown(original) if isinstance(original, str) else shown(row_json(mask_value(original)))
    record = json.dumps({"line": line, "findings": reasons, "text": text}, ensure_ascii=False)
    return record.encode("utf-8", "replace").decode("utf-8") + "\n"


def merged(early: Iterator[tuple[int, str]], late: Iterator[tuple[int, str]]) -> Iterator[str]:
    """Quarantine records of both passes in line order."""
    return (record for _, record in heapq.merge(early, late, key=lambda pair: pair[0]))
