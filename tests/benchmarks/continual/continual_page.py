"""The continual benchmark's finished rounds as a page: tables between the markers of continual.md; the prose around them is kept.

python -P tests/benchmarks/continual/continual_page.py --rounds docs/results/continual.jsonl --out docs/results
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent))  # python -P leaves it out

from continual_figures import TaskSequence, difference, estimate, from_hex, longest_runs, mean_over

BEGIN, END = "<!-- numbers: begin -->", "<!-- numbers: end -->"
METHODS = (
    "full",
    "lora",
    "full + replay",
    "peft osf",
    "o-lora",
    "oft",
    "weights",
    "weights + written",
    "activations",
    "activations + text",
)
DEPTHS = (13, 11, 7, 5)  # after so many rounds methods are compared, by the seeds that came so far
ORDER_DEPTHS = (("order 5", 12), ("order 5", 5), ("order 6", 13))
GENERAL = {"piqa": "PIQA", "mmlu": "MMLU", "refusal": "XSTest, refused what harms", "over-refusal": "XSTest, helped with the rest"}
GENERAL |= {"instructions": "instructions with one right answer"}
SHOWN = ("full", "lora", "full + replay", "activations")  # task by task
Lines = Sequence[Mapping[str, Any]]


def sequences(lines: Lines, base: Mapping[str, Any], least: int, kind: str = "main") -> dict[str, list[TaskSequence]]:
    """{method: its sequences by seed} of those that have at least so many rounds."""
    found: dict[str, dict[int, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        if line["kind"] == kind:
            found[line["method"]][line["seed"]].append(line)
    made = {name: [TaskSequence(each, base) for _, each in sorted(found[name].items()) if len(each) >= least] for name in METHODS}
    return {name: each for name, each in made.items() if each}


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return [*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows), ""]


def methods_table(found: Mapping[str, Sequence[TaskSequence]], rounds: int) -> list[str]:
    head = ["method", "rate", "seeds", "average at the end", "learned", "BWT", "forgotten", "forward transfer", "PIQA", "bits per byte, %"]
    rows = []
    for name, group in found.items():
        cells = [str(estimate(group, figure, rounds)) for figure in ("average", "learned")]
        cells += [estimate(group, figure, rounds).signed for figure in ("backward", "forgotten", "forward", "piqa", "text")]
        seeds = ", ".join(str(each.seed) for each in group)
        spread = estimate(group, "backward", rounds).spread
        cells[2] += f" (seeds ± {spread:.1f})" if spread is not None else ""
        rows.append([name, f"{group[0].lines[0]['rate']:g}", seeds, *cells])
    return table(head, rows)


def general_table(found: Mapping[str, Sequence[TaskSequence]], rounds: int) -> list[str]:
    """Items of the general suites won, tied and lost against the base, over the seeds that were asked."""
    rows = []
    for name, group in found.items():
        cells = []
        for suite in GENERAL:
            asked = [changes for each in group if (changes := each.against_base(suite, rounds))]
            every = [change for changes in asked for change in changes]
            counts = " / ".join(f"{sum(change == each for change in every)}" for each in (1.0, 0.0, -1.0))
            mean = mean_over([[fmean(values) for values in zip(*asked, strict=True)]]) if asked else (0.0, 0.0)
            cells.append("{} ({:+.1f} ± {:.1f}; seeds: {})".format(counts, *mean, len(asked)) if asked else "")
        rows.append([name, *cells])
    return table(["won / tied / lost against the base (points)", *GENERAL.values()], rows)


def against_table(found: Mapping[str, Sequence[TaskSequence]], rounds: int, name: str) -> list[str]:
    """One method less each other, over the seeds that both have, item by item."""
    rows = []
    for other, group in found.items():
        if other != name and name in found:
            common = sorted({each.seed for each in group} & {each.seed for each in found[name]})
            pair = [[each for each in many if each.seed in common] for many in (found[name], group)]
            if common:
                cells = [difference(*pair, figure, rounds).signed for figure in ("average", "learned", "backward")]
                rows.append([other, ", ".join(map(str, common)), *cells])
    return table([f"`{name}` less", "seeds", "average at the end", "learned", "BWT"], rows)


def tasks_table(found: Mapping[str, Sequence[TaskSequence]], base: Mapping[str, Any], single: Mapping[str, Any], rounds: int) -> list[str]:
    """Of each task: the base's score, the score of a model trained on it alone, and for some methods learned -> at the end."""
    shown = [name for name in SHOWN if name in found]
    rows = []
    first = next(iter(found.values()))[0]
    for at, task in enumerate(first.tasks[:rounds], start=1):
        count = base["items"][task]["items"]
        cells: list[str] = [f"{task} ({count})", f"{100 * fmean(from_hex(base['scores'][task], count)):.0f}"]
        cells.append(f"{100 * fmean(from_hex(single[task], count)):.0f}" if task in single else "")
        for name in shown:
            learned, end = (100 * fmean(fmean(each.right(task, after)) for each in found[name]) for after in (at, rounds))
            cells.append(f"{learned:.0f} → {end:.0f}")
        rows.append(cells)
    return table(["task (items)", "base", "alone (full)", *shown], rows)


def text_table(found: Mapping[str, Sequence[TaskSequence]], rounds: int) -> list[str]:
    """Change of the bits per byte, text by text, in percent."""
    first = next(iter(found.values()))[0]
    names = sorted(first.base["nats"])
    rows = []
    for name, group in found.items():
        changes = ([fmean(values) for values in zip(*(each.bits(text, rounds) for each in group), strict=True)] for text in names)
        rows.append([name, *("{:+.1f} ± {:.1f}".format(*mean_over([values])) for values in changes)])
    return table(["bits per byte, %", *names], rows)


def rounds_table(found: Mapping[str, Sequence[TaskSequence]]) -> list[str]:
    last = max(len(each.lines) for group in found.values() for each in group)
    rows = []
    for name, group in found.items():
        came = min(len(each.lines) for each in group)
        shown = [
            f"{estimate(group, 'average', at).value:.0f} / {estimate(group, 'backward', at).value:+.1f}" if at <= came else ""
            for at in range(2, last + 1)
        ]
        rows.append([name, len(group), *shown])
    return table(["method", "seeds", *(f"{at}" for at in range(2, last + 1))], rows)


def sweep_table(lines: Lines, tasks: int) -> list[str]:
    """Right answers of the tuning items, by rate, of every sequence that came so far: right after each task's own round, and after so many
    tasks."""
    sweeps: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for line in lines:
        if line["kind"] == "sweep":
            sweeps[line["job"]].append(line)
    found: dict[str, dict[float, str]] = defaultdict(dict)
    for own in sweeps.values():
        if len(own) >= tasks:
            learned = [int(each["scores"][each["task"]], 16).bit_count() for each in own[:tasks]]
            end = [int(bits, 16).bit_count() for bits in own[tasks - 1]["scores"].values()]
            found[own[0]["method"]][own[0]["rate"]] = f"{own[0]['rate']:g}: {fmean(learned):.1f} → {fmean(end):.1f}"
    return table(["method", "", "", ""], [[name, *(text for _, text in sorted(each.items()))] for name, each in found.items()])


def bounds(lines: Lines, base: Mapping[str, Any]) -> tuple[list[str], dict[str, str]]:
    """What no sequence has to reach: the base model, each task alone, all tasks at once. Also the single tasks' bits."""
    counts = {task: kinds["items"] for task, kinds in base["items"].items()}
    single = {line["task"]: line["scores"][line["task"]] for line in lines if line["kind"] == "single"}
    named = {"base model": base["scores"], "each task alone, full fine-tuning": single}
    together = [line["scores"] for line in lines if line["kind"] == "together"]
    named |= {"all tasks at once, full fine-tuning": together[0]} if together else {}
    rows = []
    for name, scores in named.items():
        if len(scores) == len(counts):
            value, error = mean_over([from_hex(scores[task], counts[task]) for task in counts])
            rows.append([name, f"{value:.1f} ± {error:.1f}"])
    return table(["bound", "mean over the tasks"], rows), single


def full_layers(found: Mapping[str, Sequence[TaskSequence]]) -> list[str]:
    """Where layers ran out of free directions."""
    lines = []
    for name, group in found.items():
        counts = [str(line.get("full_layers", 0)) for line in group[0].lines]
        if any(count != "0" for count in counts):
            lines += [f"`{name}`: layers without a free direction, of 210, after each round: {', '.join(counts)}.", ""]
    return lines


def comparison(lines: Lines, base: Mapping[str, Any], single: Mapping[str, Any], rounds: int, kind: str = "main") -> list[str]:
    """Every method whose sequences have come so far, after the same rounds."""
    found = sequences(lines, base, rounds, kind)
    if len(found) < 2:
        return []
    titles = {"main": f"## After {rounds} tasks", "trace": f"## TRACE's short tasks in TRACE's order, after {rounds}"}
    title = titles.get(kind, f"## The paper's {kind}, after {rounds} tasks")
    page = [
        title,
        "",
        *methods_table(found, rounds),
        *text_table(found, rounds),
        *general_table(found, rounds),
        *against_table(found, rounds, "activations"),
    ]
    if "activations + text" in found:
        page += against_table(found, rounds, "activations + text")
    return [*page, "Right after a task's own round → after the last of these rounds:", "", *tasks_table(found, base, single, rounds)]


def render(lines: Lines) -> list[str]:
    base = dict(next(line for line in lines if line["kind"] == "base"))
    for line in lines:
        if line["kind"] == "general base":
            base |= {key: line[key] for name in GENERAL for key in (name, f"{name}_items") if key in line and key not in base}
    versions = ", ".join(f"{name} {number}" for name, number in base["versions"].items())
    trained = [line for line in lines if "steps" in line]
    runs = sorted({tuple(str(line.get(name, base[name])) for name in ("date", "device", "workers")) for line in trained})
    steps = sum(line["steps"] for line in lines if "steps" in line)
    lines = longest_runs(lines)
    limits, single = bounds(lines, base)
    machines = "; ".join(f"{date}, {device}, {workers} sequences at once" for date, device, workers in runs)
    page = [f"{machines}; {versions}; {steps} optimiser steps in all.", ""]
    page += [part for rounds in DEPTHS for part in comparison(lines, base, single, rounds)]
    page += [part for kind, rounds in ORDER_DEPTHS for part in comparison(lines, base, single, rounds, kind)]
    for line in lines:
        if line["kind"] == "trace base":
            asked = base | {name: line[name] for name in ("items", "scores")}
            page += [part for rounds in (5, 4) for part in comparison(lines, asked, {}, rounds, "trace")]
    longest = sequences(lines, base, 2)
    page += ["## Round by round: average / BWT, as far as every seed of a method came", "", *rounds_table(longest), *full_layers(longest)]
    page += ["## Bounds", "", *limits]
    page += ["## Rates and steps tried: learned → at the end, four tasks, tuning items", "", *sweep_table(lines, 4)]
    page += ["After the first three of them, which some reached only:", "", *sweep_table(lines, 3)]
    return [*page, *left_out(lines)]


def left_out(lines: Lines) -> list[str]:
    ended = {line["job"] for line in lines if line.get("last")}
    cut: dict[str, list[str]] = defaultdict(list)
    for line in lines:
        if line["kind"] == "main" and line["job"] not in ended:
            cut[f"{line['method']}, seed {line['seed']}"].append(str(line["round"]))
    failed = sorted(line["job"] for line in lines if line["kind"] == "failed")
    page = [f"Cut off: {'; '.join(f'{name} after round {max(map(int, at))}' for name, at in sorted(cut.items()))}.", ""] if cut else []
    return page + ([f"Failed: {', '.join(failed)}.", ""] if failed else [])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=Path, required=True, help="JSONL of continual.py")
    parser.add_argument("--out", type=Path, required=True, help="folder of continual.md")
    options = parser.parse_args()
    lines = [json.loads(line) for line in options.rounds.read_text(encoding="utf-8").splitlines()]
    page = options.out / "continual.md"
    text = page.read_text(encoding="utf-8") if page.exists() else f"# Thirteen tasks in a row\n\n{BEGIN}\n{END}\n"
    head, _, rest = text.partition(BEGIN)
    page.write_text(f"{head}{BEGIN}\n\n" + "\n".join(render(lines)) + f"\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
