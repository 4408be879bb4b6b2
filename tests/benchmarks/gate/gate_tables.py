"""Tables and plots of the gate's simulation (tests/benchmarks/gate/gate.py), as Markdown lines and SVG files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gate_looks import Look
from gate_ratchet import History
from gate_sizes import Hard
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rates = dict[tuple[str, int, float], Floats]
"""(scenario, n, churn) -> shares of PASS, BLOCK, INCONCLUSIVE."""

Looks = dict[tuple[int, str, float], Look]
"""(available, scenario, churn) -> two looks, the first at 400 items."""
Sizes = dict[tuple[int, int, int], list[float]]
"""(suites, n, available) -> size over both looks, by churn."""
HardSizes = dict[tuple[str, int, float], Hard]

SIZES = (100, 200, 400, 1000)
CHURNS = (0.02, 0.05, 0.10)
COMPARED = {
    "champion": "the champion only",
    "anchors": "champion and anchors, same items",
    "fresh": "champion and anchors, fresh items every round",
    "joining": "champion and anchors, same items; a skill joins with each promoted round",
}


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def rates_table(rates: Rates) -> list[str]:
    lines = [
        "Each cell: **P(PASS)** · P(BLOCK) · P(INCONCLUSIVE).",
        "",
        "| what truly happened | churn | " + " | ".join(f"n = {n}" for n in SIZES) + " |",
        "|---|---|" + "---|" * len(SIZES),
    ]
    for name in dict.fromkeys(key[0] for key in rates):
        for churn in CHURNS:
            cells = [rates[name, n, churn] for n in SIZES]
            words = " | ".join(f"**{cell[0]:.3f}** · {cell[1]:.3f} · {cell[2]:.3f}" for cell in cells)
            lines.append(f"| {name} | {percent(churn)} | {words} |")
    return lines


def targets_table(rates: Rates, looks: Looks, sizes: Sizes, hard: HardSizes) -> list[str]:
    wanted = [("nothing changed", "at least", 0.85), ("all suites −2 points", "at most", 0.06), ("one skill −10 points", "at most", 0.02)]
    heads = " | ".join(f"churn {percent(churn)}" for churn in CHURNS)
    lines = [f"| P(promote) at n = 400 | target | {heads} |", "|---|---|" + "---|" * len(CHURNS)]

    def row(what: str, sense: str, bound: float, values: list[float]) -> str:
        met = [value >= bound if sense == "at least" else value <= bound for value in values]
        cells = [f"{value:.3f} {'met' if good else '**missed**'}" for value, good in zip(values, met, strict=True)]
        return f"| {what} | {sense} {bound} | {' | '.join(cells)} |"

    for name, sense, bound in wanted:
        lines.append(row(f"{name}, 400 items and no more", sense, bound, [float(rates[name, 400, churn][0]) for churn in CHURNS]))
        lines.append(row(f"{name}, two looks, 1,000 available", sense, bound, [float(looks[1000, name, c].twice[0]) for c in CHURNS]))
    over = [max(each[-len(CHURNS) :][index] for each in sizes.values()) for index in range(len(CHURNS))]
    lines.append(row("size of one category's question over both looks, the largest", "at most", 0.06, over))
    tough = [max(each.twice for (_, _, at), each in hard.items() if at == churn) for churn in CHURNS]
    return [*lines, row("the same where items or losses go together", "at most", 0.06, tough)]


def designs_table(
    rates: Rates,
    looks: Looks,
    old: dict[tuple[str, float], Look],
    sizes: Sizes,
    old_sizes: dict[tuple[int, int, float], tuple[float, float]],
    hard: HardSizes,
) -> list[str]:
    """Power at churn 10 % and the largest size of each design of looks."""
    honest = "nothing changed"
    one = max(max(values) for (_, n, available), values in sizes.items() if n == available)
    two = max(max(values) for (_, n, available), values in sizes.items() if n != available)
    old_one, old_two = (max(each[index] for each in old_sizes.values()) for index in (0, 1))
    old_tough, tough = max(each.once_by_rules_3 for each in hard.values()), max(each.twice for each in hard.values())
    return [
        "Five skills and three general suites, 400 items each at the first look, nothing changed, churn 10 %. Size: the largest over all",
        "churns, suites and numbers of items tried.",
        "",
        "| design | first look | both looks | items per suite | size, items independent | size, items or losses together |",
        "|---|---|---|---|---|---|",
        f"| rules 3: as many items as the first look asks for, up to 1,500, at a quarter of alpha | {old[honest, 0.10].once[0]:.3f} | "
        f"{old[honest, 0.10].twice[0]:.3f} | {old[honest, 0.10].items:.0f} | {old_two:.3f} (one look {old_one:.3f}) | "
        f"one look {old_tough:.3f} |",
        f"| one look, null variance | {float(rates[honest, 400, 0.10][0]):.3f} | | 400 | {one:.3f} | |",
        *(
            f"| **two looks**, N2 = {available:,} fixed, null variance | {looks[available, honest, 0.10].once[0]:.3f} | "
            f"**{looks[available, honest, 0.10].twice[0]:.3f}** | {looks[available, honest, 0.10].items:.0f} | {two:.3f} | {tough:.3f} |"
            for available in (1000, 1600)
        ),
    ]


def sizes_table(sizes: Sizes, churns: tuple[float, ...]) -> list[str]:
    lines = [
        "P(non-inferiority is shown over both looks) where the category's true mean loss is the margin of 2 points, by churn; 0 % is pure",
        f"loss. The largest is {max(map(max, sizes.values())):.3f}.",
        "",
        "| suites in the category | items at the first look | at the second | "
        + " | ".join(f"{100 * churn:g} %" for churn in churns)
        + " |",
        "|---|---|---|" + "---|" * len(churns),
    ]
    for (suites, n, available), values in sizes.items():
        more = f"{available:,}" if available > n else "none"
        lines.append(f"| {suites} | {n:,} | {more} | {' | '.join(f'{share:.3f}' for share in values)} |")
    return lines


def hard_table(hard: HardSizes) -> list[str]:
    lines = [
        "The same with the gate's own arithmetic (`evals.statistics`), 400 items at the first look and 1,000 at the second: one look by",
        "rules 3 → two looks by today's rules.",
        "",
        "| the loss of 2 points | suites | churn 0 % | " + " | ".join(f"churn {percent(churn)}" for churn in CHURNS) + " |",
        "|---|---|---|" + "---|" * len(CHURNS),
    ]
    for kind, suites in dict.fromkeys((kind, suites) for kind, suites, _ in hard):
        cells = [hard[kind, suites, churn] for churn in (0.0, *CHURNS)]
        lines.append(f"| {kind} | {suites} | " + " | ".join(f"{each.once_by_rules_3:.3f} → {each.twice:.3f}" for each in cells) + " |")
    return lines


def looks_table(looks: Looks, old: dict[tuple[str, float], Look]) -> list[str]:
    lines = [
        "400 items per suite at first. P(PASS) after one look → after two (items per suite, on average). `available` is how many there",
        "are; the second look reads all of them, of the suites that were held. Rules 3 read as many as the first look asked for, at a",
        "quarter of alpha.",
        "",
        "| what truly happened | rules, available | " + " | ".join(f"churn {percent(churn)}" for churn in CHURNS) + " |",
        "|---|---|" + "---|" * len(CHURNS),
    ]
    for name in dict.fromkeys(key[1] for key in looks):
        rows = [("3, 1,500", [old[name, churn] for churn in CHURNS])]
        rows += [(f"4, {available:,}", [looks[available, name, churn] for churn in CHURNS]) for available in (1000, 1600)]
        for rules, cells in rows:
            words = " | ".join(f"{cell.once[0]:.3f} → **{cell.twice[0]:.3f}** ({cell.items:.0f})" for cell in cells)
            lines.append(f"| {name} | {rules} | {words} |")
    return lines


def ratchet_table(histories: dict[tuple[str, int], History], loss: float, rounds: int) -> list[str]:
    lines = [
        f"Every candidate truly loses {100 * loss:.1f} points on every suite; {rounds} rounds, churn 5 %. A round that does not pass",
        "leaves the champion as it is. The loss is that of the suites that were there from the start; the last column is over all suites,",
        "each since it joined. The 95th percentile is over lineages.",
        "",
        f"| compared with | n | promoted of {rounds} rounds | true loss that got through: mean | 95th percentile | mean over all suites |",
        "|---|---|---|---|---|---|",
    ]
    for (mode, n), history in histories.items():
        final = history.oldest[:, -1]
        through = (
            f"{100 * final.mean():.1f} points | {100 * np.quantile(final, 0.95):.1f} points | {100 * history.mean[:, -1].mean():.1f} points"
        )
        lines.append(f"| {COMPARED[mode]} | {n} | {history.promoted.mean():.1f} | {through} |")
    return lines


def plot_rates(rates: Rates, path: Path) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(CHURNS), figsize=(10, 3.4), sharey=True)
    for axis, churn in zip(axes, CHURNS, strict=True):
        for name, style in zip(dict.fromkeys(key[0] for key in rates), ("o-", "s--", "^-.", "D:"), strict=True):
            axis.plot(SIZES, [rates[name, n, churn][0] for n in SIZES], style, label=name)
        axis.axhline(0.85, color="grey", linewidth=0.7)
        axis.axhline(0.06, color="grey", linewidth=0.7)
        axis.set(
            xscale="log", xticks=SIZES, xticklabels=SIZES, xlabel="items per suite", title=f"churn {percent(churn)}", ylim=(-0.03, 1.03)
        )
        axis.minorticks_off()
    axes[0].set_ylabel("P(promote)")
    axes[0].legend(fontsize=8)
    _save(figure, path)


def plot_ratchet(histories: dict[tuple[str, int], History], path: Path, n: int, loss: float) -> None:
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6.4, 3.6))
    for mode, style in (("champion", "o-"), ("anchors", "s--"), ("fresh", "^-."), ("joining", "d:")):
        history = 100 * histories[mode, n].oldest
        rounds = np.arange(1, history.shape[1] + 1)
        axis.plot(rounds, history.mean(0), style, markersize=4, label=COMPARED[mode])
        axis.fill_between(rounds, *np.quantile(history, [0.05, 0.95], axis=0), alpha=0.15)
    axis.axhline(3.0, color="grey", linewidth=0.7)
    axis.set(xlabel="round", ylabel="true loss that got through (points)", title=f"every candidate loses {100 * loss:.1f} points; n = {n}")
    axis.legend()
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot, rcParams

    rcParams["svg.hashsalt"] = "skillstack"
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
