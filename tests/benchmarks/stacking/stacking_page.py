"""The stacking runs as a page: the frontier of learning against forgetting, and how each method stands after every round.

    python -P tests/benchmarks/stacking/stacking_page.py --work /tmp/stacking /tmp/stacking-smollm2 --out docs/results

Writes stacking-*.svg and the tables between the markers of stacking.md; the prose around them is kept.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot

BEGIN, END = "<!-- numbers: begin -->", "<!-- numbers: end -->"
METHODS = ("full", "lora", "peft osf", "weights", "weights + memory", "weights_block", "activations, no memory", "activations")


@dataclass(frozen=True)
class Standing:
    """Where a sequence stands after its last round, in points. learned: mean score of each new skill right after its round; kept: change of
    everything earlier since it was learned; backward: the same over the new skills only (BWT); average: over everything."""

    learned: float
    kept: float
    backward: float
    base: float
    average: float


def standing(sequence: Mapping[str, Any], rounds: int) -> Standing:
    """After `rounds` rounds of a sequence (1 or more)."""
    rows, skills = sequence["rows"], sequence["skills"][:rounds]
    base = [name for name in rows[0] if name not in sequence["skills"]]
    now = rows[rounds]
    learned_at = {name: rows[0][name] for name in base} | {skill: rows[number][skill] for number, skill in enumerate(skills, 1)}
    earlier = [name for name in learned_at if name != skills[-1]]
    new_earlier = list(skills[:-1])
    return Standing(
        learned=100 * fmean(learned_at[skill] for skill in skills),
        kept=100 * fmean(now[name] - learned_at[name] for name in earlier),
        backward=100 * fmean(now[name] - learned_at[name] for name in new_earlier) if new_earlier else 0.0,
        base=100 * fmean(now[name] - rows[0][name] for name in base),
        average=100 * fmean(now[name] for name in learned_at),
    )


def grouped(sequences: Iterable[Mapping[str, Any]]) -> dict[tuple[str, float], list[Mapping[str, Any]]]:
    found: dict[tuple[str, float], list[Mapping[str, Any]]] = defaultdict(list)
    for each in sequences:
        found[each["variant"], each["learning_rate"]].append(each)
    return dict(sorted(found.items(), key=lambda item: (_place(item[0][0]), item[0][1])))


def _place(variant: str) -> tuple[int, str]:
    return (METHODS.index(variant) if variant in METHODS else len(METHODS), variant)


def _spread(values: Sequence[float]) -> str:
    """Mean over the seeds, and their standard deviation where there are several."""
    return f"{fmean(values):.1f} ± {stdev(values):.1f}" if len(values) > 1 else f"{values[0]:.1f}"


def frontier_table(groups: Mapping[tuple[str, float], Sequence[Mapping[str, Any]]]) -> list[str]:
    lines = ["| method | learning rate | seeds | learned | kept (all earlier) | BWT (new skills) | base skills | average at the end |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for (variant, rate), group in groups.items():
        ends = [standing(each, len(each["skills"])) for each in group]
        cells = [_spread([getattr(end, name) for end in ends]) for name in ("learned", "kept", "backward", "base", "average")]
        lines.append(f"| {variant} | {rate:g} | {len(group)} | " + " | ".join(cells) + " |")
    return lines


def best_rates(groups: Mapping[tuple[str, float], Sequence[Mapping[str, Any]]]) -> dict[str, tuple[str, float]]:
    """Each method's rate with the best average over everything at the end."""
    best: dict[str, tuple[float, tuple[str, float]]] = {}
    for key, group in groups.items():
        mean = fmean(standing(each, len(each["skills"])).average for each in group)
        if key[0] not in best or mean > best[key[0]][0]:
            best[key[0]] = (mean, key)
    return {variant: key for variant, (_, key) in best.items()}


def rounds_table(groups: Mapping[tuple[str, float], Sequence[Mapping[str, Any]]]) -> list[str]:
    """Average accuracy / BWT after each round, at each method's best rate."""
    best = best_rates(groups)
    count = len(next(iter(groups.values()))[0]["skills"])
    lines = ["| method | learning rate | " + " | ".join(f"round {number}" for number in range(1, count + 1)) + " |"]
    lines.append("|---|---|" + "---|" * count)
    for variant, key in best.items():
        cells = []
        for number in range(1, count + 1):
            stands = [standing(each, number) for each in groups[key]]
            cells.append(f"{fmean(s.average for s in stands):.1f} / {fmean(s.backward for s in stands):+.1f}")
        lines.append(f"| {variant} | {key[1]:g} | " + " | ".join(cells) + " |")
    return lines


def plot_frontier(groups: Mapping[tuple[str, float], Sequence[Mapping[str, Any]]], path: Path, title: str) -> None:
    figure, axes = pyplot.subplots(figsize=(7.5, 4.6))
    by_variant: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for (variant, _), group in groups.items():
        if variant in METHODS:
            ends = [standing(each, len(each["skills"])) for each in group]
            by_variant[variant].append((-fmean(end.kept for end in ends), fmean(end.learned for end in ends)))
    marks = "o^svDPX*"
    for number, (variant, points) in enumerate(by_variant.items()):
        axes.plot(*zip(*points, strict=True), marker=marks[number % len(marks)], linestyle=":", label=variant)
    axes.set(xlabel="lost on everything earlier (points)", ylabel="score of a new skill when learned (%)", title=title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    _save(figure, path)


def plot_rounds(groups: Mapping[tuple[str, float], Sequence[Mapping[str, Any]]], path: Path, title: str) -> None:
    figure, axes = pyplot.subplots(figsize=(7.5, 4.2))
    for variant, key in best_rates(groups).items():
        if variant in METHODS:
            count = len(groups[key][0]["skills"])
            means = [fmean(standing(each, number).average for each in groups[key]) for number in range(1, count + 1)]
            axes.plot(range(1, count + 1), means, marker="o", label=f"{variant} ({key[1]:g})")
    axes.set(xlabel="round", ylabel="mean score of all skills so far (%)", title=title, xticks=range(1, count + 1))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    """The same bytes for the same numbers."""
    with mpl.rc_context({"svg.hashsalt": "skillstack"}):
        figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    pyplot.close(figure)


def render(work: Path, out: Path) -> list[str]:
    """The part of the page about one world."""
    sequences = [json.loads(line) for line in (work / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    facts = json.loads((work / "facts.json").read_text(encoding="utf-8"))
    groups = grouped(sequences)
    world, title = facts["world"], f"{facts['world']}: {len(sequences[0]['skills'])} skills in a row"
    minutes = sum(each["cpu_seconds"] for each in sequences) / 60
    plot_frontier(groups, out / f"stacking-{world}-frontier.svg", title)
    plot_rounds(groups, out / f"stacking-{world}-rounds.svg", title)
    return [
        f"## {title}",
        "",
        f"`{facts['command']}`, {facts['date']}, {facts['machine']}, {facts['versions']}; {minutes:.0f} CPU minutes.",
        f"Skills in order: {', '.join(sequences[0]['skills'])}. Scored after every round: {', '.join(sequences[0]['rows'][0])}.",
        "",
        *frontier_table(groups),
        "",
        f"![The frontier](stacking-{world}-frontier.svg)",
        "",
        "Average over everything / BWT after each round, at each method's best rate:",
        "",
        *rounds_table(groups),
        "",
        f"![Round by round](stacking-{world}-rounds.svg)",
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, nargs="+", required=True, help="folders of stacking.py")
    parser.add_argument("--out", type=Path, required=True, help="folder of stacking.md and its plots")
    options = parser.parse_args()
    page = options.out / "stacking.md"
    text = page.read_text(encoding="utf-8") if page.exists() else f"# Stacking rounds\n\n{BEGIN}\n{END}\n"
    head, _, rest = text.partition(BEGIN)
    numbers = [line for work in options.work for line in render(work, options.out)]
    page.write_text(head + BEGIN + "\n\n" + "\n".join(numbers) + "\n" + END + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    main()
