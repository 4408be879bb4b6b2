"""From the continual benchmark's lines to numbers with error bars.

Errors are over items: the same items are asked of every method after every round, so differences are paired. Each task weighs the same.
Where a method has several seeds, an item's value is its mean over them; the seeds' own spread stands beside.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

Values = list[float]  # one number per item
Line = Mapping[str, Any]


def from_hex(bits: str, count: int) -> Values:
    """Items right (1) or wrong (0), as `to_hex` of continual.py wrote them."""
    return [float(int(bits[at // 4], 16) >> (3 - at % 4) & 1) for at in range(count)]


def longest_runs(lines: Sequence[Line]) -> list[Line]:
    """Of a sequence that was begun anew the longer run, of equals the later; never rounds of two runs together."""
    runs: dict[str, list[list[Line]]] = defaultdict(list)
    for line in lines:
        if line.get("round", 1) == 1:
            runs[line["job"]].append([])
        runs[line["job"]][-1].append(line)
    return [line for each in runs.values() for line in max(reversed(each), key=len)]


@dataclass(frozen=True)
class Estimate:
    """A mean over tasks in points. error: its standard error over items. spread: standard deviation over seeds, where there are several."""

    value: float
    error: float
    spread: float | None = None

    def __str__(self) -> str:
        return f"{self.value:.1f} ± {self.error:.1f}"

    @property
    def signed(self) -> str:
        return f"{self.value:+.1f} ± {self.error:.1f}"


def mean_over(tasks: Sequence[Values]) -> tuple[float, float]:
    """(mean, standard error) in points of the tasks' means, every task weighing the same."""
    variance = sum((stdev(values) ** 2 / len(values)) if len(values) > 1 else 0.0 for values in tasks)
    return 100 * fmean(fmean(values) for values in tasks), 100 * math.sqrt(variance) / len(tasks)


def minus(left: Values, right: Values) -> Values:
    return [a - b for a, b in zip(left, right, strict=True)]


class TaskSequence:
    """One method's sequence with one seed: which items were right after which round. `rounds` may be fewer than the tasks."""

    def __init__(self, lines: Iterable[Line], base: Line) -> None:
        self.lines = sorted(lines, key=lambda line: line["round"])
        self.tasks = [line["task"] for line in self.lines]
        self.seed: int = self.lines[0]["seed"]
        self.base = base
        self.counts = {task: kinds["items"] for task, kinds in base["items"].items()}

    def right(self, task: str, after: int) -> Values:
        """Items of a task after a round; after round 0, of the base model."""
        scores = self.base["scores"] if after == 0 else self.lines[after - 1]["scores"]
        return from_hex(scores[task], self.counts[task])

    def learned(self, rounds: int) -> list[Values]:
        return [self.right(task, at) for at, task in enumerate(self.tasks[:rounds], start=1)]

    def at_end(self, rounds: int) -> list[Values]:
        return [self.right(task, rounds) for task in self.tasks[:rounds]]

    def backward(self, rounds: int) -> list[Values]:
        """What became of each earlier task since its own round."""
        return [minus(self.right(task, rounds), self.right(task, at)) for at, task in enumerate(self.tasks[: rounds - 1], start=1)]

    def forgotten(self, rounds: int) -> list[Values]:
        """What each earlier task lost against the best it ever stood at."""
        found = []
        for at, task in enumerate(self.tasks[: rounds - 1], start=1):
            best = max((self.right(task, later) for later in range(at, rounds)), key=fmean)
            found.append(minus(best, self.right(task, rounds)))
        return found

    def forward(self, rounds: int) -> list[Values]:
        """What the rounds before a task's own did to it."""
        return [minus(self.right(task, at - 1), self.right(task, 0)) for at, task in enumerate(self.tasks[:rounds], start=1) if at > 1]

    def piqa(self, rounds: int) -> list[Values]:
        return [self.against_base("piqa", rounds)]

    def bits(self, name: str, rounds: int) -> Values:
        """Change of the bits per byte of each text, as a share of the base's mean, weighted by its bytes."""
        now, before, sizes = self.lines[rounds - 1]["nats"][name], self.base["nats"][name], self.base["bytes"][name]
        total = sum(before)
        return [len(sizes) * (a - b) / total for a, b in zip(now, before, strict=True)]

    def against_base(self, name: str, rounds: int) -> Values:
        """Change of each item of a general suite (piqa, mmlu) against the base: 1 won, 0 tied, -1 lost; none where either was not asked."""
        line = self.lines[rounds - 1]
        if name not in line or name not in self.base:
            return []
        count = self.base[f"{name}_items"]
        return minus(from_hex(line[name], count), from_hex(self.base[name], count))

    def text(self, rounds: int) -> list[Values]:
        return [self.bits(name, rounds) for name in sorted(self.base["nats"])]


Figure = Callable[[TaskSequence, int], list[Values]]
FIGURES: dict[str, Figure] = {
    "average": TaskSequence.at_end,
    "learned": TaskSequence.learned,
    "backward": TaskSequence.backward,
    "forgotten": TaskSequence.forgotten,
    "forward": TaskSequence.forward,
    "piqa": TaskSequence.piqa,
    "text": TaskSequence.text,
}


def estimate(sequences: Sequence[TaskSequence], figure: str, rounds: int) -> Estimate:
    """A figure over all seeds of a method after so many rounds."""
    found = [FIGURES[figure](each, rounds) for each in sequences]
    if not found[0]:
        return Estimate(0.0, 0.0)
    together = [[fmean(values) for values in zip(*tasks, strict=True)] for tasks in zip(*found, strict=True)]
    value, error = mean_over(together)
    alone = [mean_over(tasks)[0] for tasks in found]
    return Estimate(value, error, stdev(alone) if len(alone) > 1 else None)


def difference(left: Sequence[TaskSequence], right: Sequence[TaskSequence], figure: str, rounds: int) -> Estimate:
    """Left minus right of a figure that is taken of the same items, paired; over the seeds that both have."""

    def means(sequences: Sequence[TaskSequence]) -> list[Values]:
        found = [FIGURES[figure](each, rounds) for each in sequences]
        return [[fmean(values) for values in zip(*tasks, strict=True)] for tasks in zip(*found, strict=True)]

    value, error = mean_over([minus(a, b) for a, b in zip(means(left), means(right), strict=True)])
    return Estimate(value, error)
