"""A drop is read plain, gzipped or as zstd, by its first bytes; what is damaged or unpacks to far more than data would is refused."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from data_contracts.config import ContractConfig
from data_contracts.validate import validate_drop

LENIENT = ContractConfig(max_bad_fraction=1.0, max_dropped_fraction=1.0, heldout_min_rows=0, sealed_min_rows=0)


def whole(lines: list[bytes]) -> bytes:
    return b"\n".join(lines) + b"\n"


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("plain.jsonl", lambda text: text),
        ("crlf.jsonl", lambda text: text.replace(b"\n", b"\r\n")),
        ("byte-order-mark.jsonl", lambda text: b"\xef\xbb\xbf" + text),
        ("no-last-line-end.jsonl", lambda text: text.rstrip(b"\n")),
        ("blank-lines.jsonl", lambda text: text.replace(b"\n", b"\n\n \n")),
        ("drop.jsonl.gz", gzip.compress),
        ("gzip-members.jsonl.gz", lambda text: gzip.compress(text[:1000]) + gzip.compress(text[1000:])),
        ("drop.jsonl.zst", zstandard.compress),
        ("zstd-frames.jsonl.zst", lambda text: zstandard.compress(text[:1000]) + zstandard.compress(text[1000:])),
        ("gzip-under-another-name.jsonl", gzip.compress),
    ],
)
def test_harmless_forms_of_a_file_give_the_same_rows(
    name: str, write: Callable[[bytes], bytes], good_lines: list[bytes], tmp_path: Path
) -> None:
    (tmp_path / "plain.jsonl").write_bytes(whole(good_lines))
    (tmp_path / name).write_bytes(write(whole(good_lines)))
    for path, out in ((tmp_path / "plain.jsonl", "a"), (tmp_path / name, "b")):
        validate_drop(path, tmp_path / out, skill="notes", config=LENIENT)
    for split in ("clean", "heldout", "sealed"):
        assert (tmp_path / "a" / f"{split}.jsonl").read_bytes() == (tmp_path / "b" / f"{split}.jsonl").read_bytes()
