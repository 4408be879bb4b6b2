"""Fuzz the validation of drops: any bytes must give a manifest or one clear error, never a traceback, and never a file that lies.

nice -n 15 python tests/benchmarks/contracts/contracts_fuzz.py --minutes 10 --seed 0
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

import zstandard

from data_contracts.config import ContractConfig
from data_contracts.errors import SkillstackError
from data_contracts.manifests import DropManifest, read_manifest
from data_contracts.validate import validate_drop

PIECES = (
    b'{"messages": [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "It is a lantern."}]}',
    b'{"prompt": "Name a colour", "completion": "blue"}',
    b'{"text": "A short document about rivers and bridges."}',
    b'"role"', b'"content"', b'"tool"', b'"system"', b'"tool_calls"', b'"tools"', b'"unmask"', b'"id"', b'"reasoning_content"',
    b"null", b"true", b"NaN", b"-1e999", b"[", b"]", b"{", b"}", b":", b",", b'"', b"\\", b"\\u0000", b"\\ud83d", b"\x00", b"\xef\xbb\xbf",
    b"\xff\xfe", b"\r", b"\n", b"\r\n", b"\xc0\xaf", "\u200b\u202e\u00e9\U0001f600".encode(), b"9" * 400, b"[" * 300, b"<|im_start|>",
    b"AK" + b"IA" + b"A" * 16, b"4111 1111 1111 1111", b"a.b@c.de", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b" ", b"\t", b"\x1b[31m",
)  # fmt: skip


def mutate(source: random.Random, text: bytes) -> bytes:
    """A few random edits: insert a piece, delete or repeat a span, flip a byte."""
    for _ in range(source.randint(1, 12)):
        place = source.randint(0, len(text))
        kind = source.random()
        if kind < 0.4:
            text = text[:place] + source.choice(PIECES) + text[place:]
        elif kind < 0.6:
            text = text[:place] + text[place + source.randint(1, 40) :]
        elif kind < 0.8:
            text = text[:place] + text[place : place + source.randint(1, 200)] * source.randint(2, 4) + text[place:]
        elif text:
            place = min(place, len(text) - 1)
            text = text[:place] + bytes([source.randrange(256)]) + text[place + 1 :]
    return text


def make_drop(source: random.Random) -> bytes:
    """Rows that are mostly good, then mutated, now and then compressed and mutated again; or bytes without any plan."""
    if source.random() < 0.1:
        return source.randbytes(source.randint(0, 600))
    rows = [source.choice(PIECES[:3]).replace(b"it", b"it %d" % source.randrange(10**6)) for _ in range(source.randint(1, 30))]
    text = mutate(source, source.choice([b"\n", b"\r\n"]).join(rows) + b"\n")
    compress = source.random()
    if compress < 0.1:
        text = gzip.compress(text)
    elif compress < 0.2:
        text = zstandard.compress(text)
    return mutate(source, text) if compress < 0.1 and source.random() < 0.5 else text


def check_outputs(folder: Path, manifest: DropManifest) -> None:
    """The files say what the manifest says, and every row is somewhere."""
    assert read_manifest(folder, DropManifest) == manifest
    rows = {
        name: (folder / f"{name}.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
        for name in ("clean", "heldout", "sealed", "quarantine")
    }
    counts = [manifest.rows_clean, manifest.rows_heldout, manifest.rows_sealed, manifest.rows_quarantined]
    assert [len(part) for part in rows.values()] == counts, (counts, {name: len(part) for name, part in rows.items()})
    assert sum(counts) == manifest.rows_read
    for part in rows.values():
        for row in part:
            assert isinstance(json.loads(row), dict)


def check_refusal(folder: Path, error: SkillstackError) -> None:
    """One line, a way out, and nothing that a later stage would take for a drop."""
    assert "\n" not in str(error), str(error)
    assert error.way_out
    assert not (folder / "manifest.json").exists()


def fuzz(minutes: float, seed: int) -> Counter[str]:
    """Run until the time is over; the number of runs by outcome. Raises the first thing that is not a clear error."""
    outcomes: Counter[str] = Counter()
    config = ContractConfig(max_bad_fraction=1.0, max_dropped_fraction=1.0, min_rows=1, max_line_bytes=2048)
    end = time.monotonic() + minutes * 60
    with tempfile.TemporaryDirectory() as folder:
        drop, out = Path(folder) / "drop.jsonl", Path(folder) / "out"
        while time.monotonic() < end:
            number = sum(outcomes.values())
            text = make_drop(random.Random(f"{seed}/{number}"))
            drop.write_bytes(text)
            shutil.rmtree(out, ignore_errors=True)
            try:
                manifest = validate_drop(drop, out, skill="fuzz", config=config)
                check_outputs(out, manifest)
                outcomes["passed"] += 1
            except SkillstackError as error:
                check_refusal(out, error)
                outcomes["refused"] += 1
            except BaseException:
                print(f"seed {seed}, run {number}: {text[:2000]!r}")
                raise
    return outcomes


def main() -> None:
    """Print one line with the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    begin = time.process_time()
    outcomes = fuzz(asked.minutes, asked.seed)
    runs = sum(outcomes.values())
    print(
        json.dumps(
            {"runs": runs, **outcomes, "minutes": asked.minutes, "seed": asked.seed, "cpu_seconds": round(time.process_time() - begin, 1)}
        )
    )


if __name__ == "__main__":
    main()
