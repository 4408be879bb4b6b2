"""Validate every real drop beside its suites and print how many findings of each kind it has, as a Markdown table.

    python tests/benchmarks/contracts/contracts_review.py --data ../shared/data [--show 20 --seed 0]

`--show` prints so many findings, drawn at random, with the row that was refused, to be looked at by eye.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from pathlib import Path

from data_contracts.config import ContractConfig
from data_contracts.validate import validate_drop

COLUMNS = ("near_duplicate", "contamination", "heldout_overlap", "personal_data", "contrary_answer")


def review(drop: Path, suites: list[Path], folder: Path) -> tuple[list[str], list[str]]:
    """(cells of the table's row, one text a refused row)."""
    manifest = validate_drop(drop, folder, skill=drop.parent.name, config=ContractConfig(max_dropped_fraction=1.0), suites=suites)
    counts = {finding.check: finding.rows for finding in manifest.findings}
    others = ", ".join(f"{name} {rows}" for name, rows in counts.items() if name not in COLUMNS) or "–"
    cells = [drop.parent.name, f"{manifest.rows_read:,}", *(str(counts.get(name, 0)) for name in COLUMNS), others]
    records = [json.loads(line) for line in (folder / "quarantine.jsonl").read_text(encoding="utf-8").splitlines()]
    return cells, [f"{drop.parent.name}:{record['line']} {record['findings'][0]} {record['text'][-400:]}" for record in records]


def main() -> None:
    """Print the table, then the findings to look at."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--show", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    general = [
        asked.data / "piqa" / "suite.jsonl",
        *sorted((asked.data / "bbh").glob("*.jsonl")),
        *sorted((asked.data / "mmlu").glob("*.jsonl")),
    ]
    refused: list[str] = []
    print(f"| drop | rows | {' | '.join(COLUMNS)} | others |\n|{'---|' * (len(COLUMNS) + 3)}", flush=True)
    for drop in sorted(asked.data.glob("**/drop.jsonl")):
        with tempfile.TemporaryDirectory() as folder:
            cells, found = review(drop, [drop.parent / "suite.jsonl", *general], Path(folder) / "out")
        print(f"| {' | '.join(cells)} |", flush=True)
        refused += found
    for text in random.Random(asked.seed).sample(refused, min(asked.show, len(refused))):
        print(f"- {text}")


if __name__ == "__main__":
    main()
