"""The soak as a table and a figure: what each round left, with the slope per round and its standard error.

    python tests/benchmarks/rounds/soak_page.py FOLDER/rounds.jsonl --out docs/results     # prints the table, writes soak.svg

A slope is that of a straight line through the rounds after the first WARM ones, in which the servers load what they need once. Processor
seconds are the measure of cost: seconds on the wall depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
import numpy as np
from matplotlib import pyplot

WARM = 5


def series(rounds: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """What is followed over the rounds, by panel and name (`memory (MB): prefect`)."""
    servers = list(rounds[0]["held"])
    found = {f"memory (MB): {name}": [each["held"][name]["memory_mb"] for each in rounds] for name in servers}
    found |= {f"open files: {name}": [each["held"][name]["files"] for each in rounds] for name in servers}
    found |= {f"processor (s per round): {name}": [each["cpu_seconds"][name] for each in rounds] for name in rounds[0]["cpu_seconds"]}
    found |= {f"database (MB): {name}": [each["databases"][name]["mb"] for each in rounds] for name in rounds[0]["databases"]}
    found["disk (MB): state folder"] = [each["state_mb"]["all"] for each in rounds]
    found["disk (MB): logs of the servers"] = [each["logs_mb"] for each in rounds]
    found["processor (s per round): gc"] = [each["commands"]["gc"]["cpu_seconds"] for each in rounds]
    found["peak (MB): the round's own processes"] = [each["peak"]["memory_mb"] for each in rounds]
    return found


def slope(values: Sequence[float]) -> tuple[float, float]:
    """Slope per round of the least squares line and its standard error; the error is infinite for fewer than three rounds."""
    number, seen = np.arange(len(values), dtype=float), np.asarray(values, dtype=float)
    if len(values) < 3:
        return (float(seen[-1] - seen[0]) if len(values) > 1 else 0.0), float("inf")
    centred = number - number.mean()
    spread = float(centred @ centred)
    rise = float(centred @ (seen - seen.mean())) / spread
    rest = seen - seen.mean() - rise * centred
    return rise, float(np.sqrt(rest @ rest / (len(values) - 2) / spread))


def table(rounds: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = ["| what | first round | last round | slope per round |", "| --- | ---: | ---: | ---: |"]
    for name, values in series(rounds).items():
        rise, error = slope(values[WARM:] if len(values) > WARM + 2 else values)
        rows.append(f"| {name} | {values[0]:.1f} | {values[-1]:.1f} | {rise:+.3f} ± {error:.3f} |")
    ends = {state: sum(each["state"] == state for each in rounds) for state in sorted({each["state"] for each in rounds})}
    said = ", ".join(f"{count} {state}" for state, count in ends.items())
    rows.append(f"\n{len(rounds)} rounds ({said}); verified: {[each['round'] for each in rounds if each['verified']]}.")
    return rows


def draw(rounds: Sequence[Mapping[str, Any]], path: Path) -> None:
    panels = ("memory (MB)", "open files", "processor (s per round)", "database (MB)", "disk (MB)", "peak (MB)")
    found, numbers = series(rounds), [each["round"] for each in rounds]
    figure, axes = pyplot.subplots(2, 3, figsize=(13, 7), layout="constrained")
    for axis, panel in zip(axes.flat, panels, strict=True):
        for name, values in found.items():
            if name.startswith(f"{panel}: "):
                axis.plot(numbers, values, marker=".", label=name.partition(": ")[2])
        axis.set(title=panel, xlabel="round", ylim=(0, None))
        axis.legend(fontsize="x-small")
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description="The soak as a table and a figure.")
    parser.add_argument("rounds", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rounds = [json.loads(line) for line in options.rounds.read_text().splitlines()]
    print("\n".join(table(rounds)))
    draw(rounds, options.out / "soak.svg")


if __name__ == "__main__":
    main()
