"""Cost of validating a drop against its rows: speed and peak memory, for the schema alone and for every check.

    python tests/benchmarks/contracts.py --rows 1000 10000 100000 1000000 [--tokenizer FOLDER]

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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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


class TokenizerRenderer:
    """A model's own template and tokenizer, as the flow supplies them."""

    max_tokens = 2048

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._last: tuple[Sequence[Mapping[str, Any]], str] = ((), "")

    def render(self, messages: Sequence[Mapping[str, Any]]) -> str:
        if self._last[0] is not messages:
            self._last = (messages, str(self._tokenizer.apply_chat_template(list(messages), tokenize=False)))
        return self._last[1]

    def token_count(self, messages: Sequence[Mapping[str, Any]]) -> int:
        return len(self._tokenizer(self.render(messages), add_special_tokens=False)["input_ids"])


def schema_alone(drop: Path) -> int:
    """Read, parse and check every line against the contract's row models; nothing else."""
    from data_contracts.contract import load_contract
    from data_contracts.jsonl import read_lines
    from data_contracts.reading import row_of

    contract = load_contract()
    return sum(row_of(line, contract)[0] is not None for line in read_lines(drop, max_line_bytes=1 << 25))


def every_check(drop: Path, out: Path, renderer: TokenizerRenderer | None) -> int:
    """The whole validation, from the drop to its manifest."""
    from data_contracts.config import ContractConfig
    from data_contracts.validate import validate_drop

    return validate_drop(drop, out, skill="speed", config=ContractConfig(), renderer=renderer).rows_read


def measure_here(mode: str, drop: Path, out: Path, tokenizer: Path | None) -> dict[str, Any]:
    """Run one measurement in this process. The first rows pay for imports and compilation, so these are done before the clock starts."""
    import data_contracts.validate  # noqa: F401
    from data_contracts.contract import load_contract

    load_contract()
    renderer = TokenizerRenderer(tokenizer) if tokenizer is not None else None
    if renderer is not None:
        renderer.token_count([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
    wall, cpu = time.perf_counter(), time.process_time()
    rows = schema_alone(drop) if mode == "schema" else every_check(drop, out, renderer)
    seconds, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"mode": mode, "rows": rows, "mb": drop.stat().st_size / 1e6, "cpu": seconds, "wall": wall, "peak_mb": peak}


def measure(mode: str, rows: int, tokenizer: Path | None, seed: int) -> dict[str, Any]:
    """Run one measurement in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        drop = Path(folder) / "drop.jsonl"
        write_rows(drop, rows, seed)
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
    for rows in asked.rows:
        for mode in ("schema", "all"):
            got = measure(mode, rows, asked.tokenizer, asked.seed)
            rate, volume = got["rows"] / got["cpu"], got["mb"] / got["cpu"]
            cells = [
                mode,
                f"{got['rows']:,}",
                f"{got['mb']:.1f}",
                f"{got['cpu']:.2f}",
                f"{got['wall']:.2f}",
                f"{rate:,.0f}",
                f"{volume:.1f}",
                f"{got['peak_mb']:.0f}",
            ]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
