"""Cost of validating a drop against its rows: speed and peak memory, for the schema alone and for every check.

    python tests/benchmarks/contracts/contracts.py --rows 1000 10000 100000 1000000 [--tokenizer FOLDER]
    python tests/benchmarks/contracts/contracts.py --drop FILE ... [--tokenizer FOLDER]

Each size runs in a process of its own, on one thread; the times are CPU seconds of that process (and wall seconds beside them),
so that other work on the machine does not count. Rows are short chats of about 60 words; 3 % are copies with a tenth of their
words edited, 2 % are exact copies.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data_contracts.validate import ChatRenderer

SYLLABLES = ["ba", "co", "di", "fu", "ga", "he", "ki", "lo", "ma", "ne", "or", "pu", "ra", "se", "ti", "um", "va", "we", "yo", "zi"]


def write_rows(path: Path, rows: int, seed: int) -> None:
    """A drop of `rows` short chats, written row by row."""
    source = random.Random(seed)
    vocabulary = ["".join(source.choices(SYLLABLES, k=source.randint(1, 4))) for _ in range(20_000)]
    recent: list[tuple[list[str], list[str]]] = []
    with path.open("w", encoding="utf-8") as stream:
        for _ in range(rows):
            kind = source.random()
            if recent and kind < 0.05:
                question, answer = (list(part) for part in source.choice(recent))
                if kind < 0.03:
                    for place in source.sample(range(len(question)), len(question) // 10):
                        question[place] = source.choice(vocabulary)
            else:
                question, answer = source.choices(vocabulary, k=source.randint(25, 60)), source.choices(vocabulary, k=source.randint(8, 30))
            recent = [*recent[-200:], (question, answer)]
            turns = [{"role": "user", "content": " ".join(question) + "?"}, {"role": "assistant", "content": " ".join(answer) + "."}]
            stream.write(json.dumps({"messages": turns}) + "\n")


def schema_alone(drop: Path) -> int:
    """Read, parse and check every line against the contract's row models; nothing else."""
    from data_contracts.contract.read import load_contract
    from data_contracts.drop.reading import row_of
    from data_contracts.rows.jsonl import read_lines

    contract = load_contract()
    return sum(row_of(line, contract)[0] is not None for line in read_lines(drop, max_line_bytes=1 << 25))


def every_check(drop: Path, out: Path, renderer: ChatRenderer | None) -> int:
    """The whole validation, from the drop to its manifest."""
    from data_contracts.config import ContractConfig
    from data_contracts.validate import validate_drop

    return validate_drop(drop, out, skill="speed", config=ContractConfig(), renderer=renderer).rows_read


def _renderer(folder: Path) -> ChatRenderer:
    """The one that the flow supplies; its imports and its first row are paid before the clock starts."""
    from flows.text.renderer import TokenizerRenderer
    from osft_engine.config import TrainConfig

    renderer = TokenizerRenderer(folder, TrainConfig())
    renderer.render([{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}])
    return renderer


def measure_here(mode: str, drop: Path, out: Path, tokenizer: Path | None) -> dict[str, Any]:
    """Run one measurement in this process. Imports and the contract's compilation come before the clock starts."""
    import jinja2  # noqa: F401
    import numpy.ma  # noqa: F401
    import rensa  # noqa: F401

    import data_contracts.validate  # noqa: F401
    from data_contracts.contract.read import load_contract

    load_contract()
    renderer = _renderer(tokenizer) if tokenizer is not None else None
    wall, cpu = time.perf_counter(), time.process_time()
    rows = schema_alone(drop) if mode == "schema" else every_check(drop, out, renderer)
    seconds, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"mode": mode, "rows": rows, "mb": drop.stat().st_size / 1e6, "cpu": seconds, "wall": wall, "peak_mb": peak}


def measure(mode: str, drop: Path, tokenizer: Path | None) -> dict[str, Any]:
    """Run one measurement in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--here", mode, str(drop), str(Path(folder) / "out")]
        command += ["--tokenizer", str(tokenizer)] if tokenizer is not None else []
        one_thread = {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **one_thread})
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="*", default=[1_000, 10_000, 100_000])
    parser.add_argument("--drop", type=Path, nargs="*", default=[], help="measure these files instead")
    parser.add_argument("--checks", nargs="*", choices=("schema", "all"), default=["schema", "all"])
    parser.add_argument("--tokenizer", type=Path, help="model folder; its template and tokenizer are then part of every check")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--here", nargs=3, metavar=("MODE", "DROP", "OUT"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.here:
        print(json.dumps(measure_here(asked.here[0], Path(asked.here[1]), Path(asked.here[2]), asked.tokenizer)))
        return
    print(
        "| checks | rows | MB | CPU s | wall s | rows per CPU s | MB per CPU s | peak memory, MB |\n|---|---|---|---|---|---|---|---|",
        flush=True,
    )
    for drop in asked.drop:
        for mode in asked.checks:
            print(_table_row(f"{mode}, {drop.parent.name}", measure(mode, drop, asked.tokenizer)), flush=True)
    for rows in asked.rows if not asked.drop else ():
        with tempfile.TemporaryDirectory() as folder:
            drop = Path(folder) / "drop.jsonl"
            write_rows(drop, rows, asked.seed)
            for mode in asked.checks:
                print(_table_row(mode, measure(mode, drop, asked.tokenizer)), flush=True)


def _table_row(mode: str, got: dict[str, Any]) -> str:
    rate, volume = got["rows"] / got["cpu"], got["mb"] / got["cpu"]
    times = f"{got['cpu']:.2f} | {got['wall']:.2f} | {rate:,.0f} | {volume:.1f}"
    return f"| {mode} | {got['rows']:,} | {got['mb']:.1f} | {times} | {got['peak_mb']:.0f} |"


if __name__ == "__main__":
    main()
