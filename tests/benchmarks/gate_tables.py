"""Tables and plots of the gate's simulation (tests/benchmarks/gate.py), as Markdown lines and SVG files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gate_looks import Look
from gate_ratchet import History
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rates = dict[tuple[str, int, float], Floats]
"""(scenario, n, churn) -> shares of PASS, BLOCK, INCONCLUSIVE."""

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


def targets_table(rates: Rates) -> list[str]:
    wanted = [("nothing changed", "at least", 0.85), ("all suites −2 points", "at most", 0.06), ("one skill −10 points", "at most", 0.02)]
    heads = " | ".join(f"churn {percent(churn)}" for churn in CHURNS)
    lines = [f"| P(promote) at n = 400 | target | {heads} |", "|---|---|" + "---|" * len(CHURNS)]
    for name, sense, bound in wanted:
        values = [float(rates[name, 400, churn][0]) for churn in CHURNS]
        met = [value >= bound if sense == "at least" else value <= bound for value in values]
        cells = [f"{value:.3f} {'met' if good else '**missed**'}" for value, good in zip(values, met, strict=True)]
        lines.append(f"| {name} | {sense} {bound} | {' | '.join(cells)} |")
    largest = [max(float(rates["all suites −2 points", n, churn][0]) for n in SIZES) for churn in CHURNS]
    cells = [f"{value:.3f} {'met' if value <= 0.06 else '**missed**'}" for value in largest]
    return [*lines, f"| size: all suites −2 points, the largest over n | at most 0.06 | {' | '.join(cells)} |"]


def sizes_table(sizes: dict[tuple[int, int], list[float]]) -> list[str]:
    lines = [
        "P(non-inferiority is shown) where the category's true mean loss is the margin of 2 points; churn 0 % (pure loss) · "
        + " · ".join(percent(churn) for churn in CHURNS)
        + ". The largest is "
        + f"{max(map(max, sizes.values())):.3f}.",
        "",
        "| suites in the category | " + " | ".join(f"n = {n}" for n in SIZES) + " |",
        "|---|" + "---|" * len(SIZES),
    ]
    for suites in dict.fromkeys(key[0] for key in sizes):
        cells = (" · ".join(f"{share:.3f}" for share in sizes[suites, n]) for n in SIZES)
        lines.append(f"| {suites} | {' | '.join(cells)} |")
    return lines


def looks_table(looks: dict[tuple[str, float], Look], sizes: dict[tuple[int, float], tuple[float, float]], n: int, most: int) -> list[str]:
    lines = [
        f"{n} items per suite at first, {most:,} available. A round that is INCONCLUSIVE is judged once more, on the items that the gate",
        "requires, with a quarter of alpha where it promotes. P(PASS) after one look → after two (items per suite, on average).",
        "",
        "| what truly happened | " + " | ".join(f"churn {percent(churn)}" for churn in CHURNS) + " |",
        "|---|" + "---|" * len(CHURNS),
    ]
    for name in dict.fromkeys(key[0] for key in looks):
        cells = [looks[name, churn] for churn in CHURNS]
        words = " | ".join(f"{cell.once[0]:.3f} → **{cell.twice[0]:.3f}** ({cell.items:.0f})" for cell in cells)
        lines.append(f"| {name} | {words} |")
    for suites in dict.fromkeys(key[0] for key in sizes):
        cells = (f"{once:.3f} → {twice:.3f}" for once, twice in (sizes[suites, churn] for churn in CHURNS))
        what = f"size of one category's question ({suites} suite{'' if suites == 1 else 's'} at the margin)"
        lines.append(f"| {what} | {' | '.join(cells)} |")
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
