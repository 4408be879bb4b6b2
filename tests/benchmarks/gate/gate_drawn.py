"""Items drawn by margin against items drawn evenly: power, size over both looks, false blocks and the ratchet, by simulation.

    python tests/benchmarks/gate/gate_drawn.py [--simulations 4000] [--lineages 100] [--seed 0] [--out docs/results]

Writes the part of gate.md between the markers of drawn items. Measured: the margins (gate-margins.jsonl). Assumed: a round shifts each
item's margin by a normal amount, the same spread for all, so that an item of margin m flips with a chance of Phi(-m / spread); the spread
is set to the churn. Where margins are `k` rounds old, they have moved k times by so much since they drew the items. 400 items are read of
pools that are drawn anew from the measured margins; where the loss is put is said in each table. Some of the draws are judged by
`evals.gate` itself, which must say the same.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from gate_drawn_check import check_against_gate, hard_shown
from gate_drawn_rules import Bools, Floats, Sample, judge_drawn, look, pooled
from gate_rules import BLOCK, PASS
from scipy import optimize, special

from data_contracts.manifests import Category
from evals.drawing import LEAST_SIZE, inclusion_chances, item_sizes
from evals.gate.policy import GatePolicy, Sizes

BEGIN, END = "<!-- drawn: begin -->", "<!-- drawn: end -->"
ITEMS, MARGIN = 400, 0.02
CHURNS = (0.02, 0.05, 0.10)
AGES = (0, 1, 4, 12)
BLOCKS = 100  # draws that share their pools
CATEGORIES: list[Category] = ["skill"] * 5 + ["general"] * 3
LOSS, ROUNDS, RIGHT = 0.009, 15, 0.75


def spread_of(margin: Floats, churn: float) -> float:
    """The spread of a round's shift that makes so many items flip."""
    return float(optimize.brentq(lambda s: float(special.ndtr(-margin.ravel() / s).mean()) - churn, 1e-4, 1e4))


def flip_chances(margin: Floats, churn: float, age: int, generator: np.random.Generator) -> Floats:
    """Each item's chance to flip, where `margin` was measured `age` rounds ago."""
    if churn == 0.0:
        return np.zeros_like(margin)
    now = np.abs(margin + np.sqrt(age) * spread_of(margin, churn) * generator.standard_normal(margin.shape))
    return np.asarray(special.ndtr(-now / spread_of(now, churn)))


def loss_chances(pattern: str, margin: Floats, flips: Floats) -> Floats:
    """Each item's chance to be lost besides, MARGIN on average. Margins are ranked within a suite."""
    rank = margin.argsort(1).argsort(1) / margin.shape[1]
    if pattern == "small margins":
        loss = MARGIN * flips / flips.mean() if flips.any() else 0.2 * (rank < 0.1)
    else:
        where = {"everywhere": rank >= 0.0, "upper half": rank >= 0.5, "top fifth": rank >= 0.8, "top 2 %, all lost": rank >= 0.98}
        loss = MARGIN * where[pattern] / where[pattern].mean()
    return np.asarray(np.minimum(loss, 1.0 - flips))


PATTERNS = ("everywhere", "small margins", "upper half", "top fifth", "top 2 %, all lost")


class Pools:
    """Pools of some suites whose items are drawn, anew for every block of draws."""

    def __init__(self, margins: Floats, suites: int, size: int, generator: np.random.Generator, *, by_margin: bool) -> None:
        self.margin = generator.choice(margins, (suites, size))
        self._sizes = np.stack([item_sizes(each) if by_margin else np.ones(size) for each in self.margin])
        self._numbers = generator.random((BLOCKS, suites, size)) / self._sizes

    def look(self, d: Floats, n: int) -> Sample:
        last = np.partition(self._numbers, n - 1, axis=2)[:, :, n - 1 : n]
        read: Bools = self._numbers <= last
        chance = np.stack([inclusion_chances(each, n) for each in self._sizes])
        return look(d, read, np.broadcast_to(1.0 / chance, d.shape))


def changes(flips: Floats, losses: Floats, generator: np.random.Generator) -> Floats:
    """d of BLOCKS candidates."""
    u = generator.random((BLOCKS, *flips.shape))
    return np.where(u < flips / 2 + losses, -1.0, np.where(u < flips + losses, 1.0, 0.0))


def levels(policy: GatePolicy, pool: int, planned: int, *, by_margin: bool) -> tuple[float, float]:
    """Of the first and of the second look, as evals.gate.decide.sizes_of has them."""
    second = int(np.ceil(pool / LEAST_SIZE)) if by_margin else planned
    level = policy.level(1, [Sizes(ITEMS, second, ITEMS)])
    return level.alpha, level.again


def power(margins: Floats, churn: float, age: int, simulations: int, generator: np.random.Generator, *, by_margin: bool) -> list[float]:
    """P(shown) where nothing was lost: general suites and skills at one look; both at one look, and over two with the pool of 1,000."""
    policy, found = GatePolicy(), []
    for suites in (3, 5):
        once = twice = 0
        for _ in range(simulations // BLOCKS):
            pools = Pools(margins, suites, 1000, generator, by_margin=by_margin)
            d = changes(flip_chances(pools.margin, churn, age, generator), np.zeros(pools.margin.shape), generator)
            first, whole = pools.look(d, ITEMS), pools.look(d, 1000)
            alpha, again = levels(policy, 1000, 1000, by_margin=by_margin)
            once += int((pooled(first, MARGIN, policy.alpha) == PASS).sum())
            twice += int(((pooled(first, MARGIN, alpha) == PASS) | (pooled(whole, MARGIN, again) == PASS)).sum())
        found.append((once / simulations, twice / simulations))
    (general, general_twice), (skills, skills_twice) = found
    return [general, skills, general * skills, general_twice * skills_twice]


def size_over_looks(margins: Floats, pool: int, churn: float, pattern: str, simulations: int, generator: np.random.Generator) -> float:
    """P(shown) over both looks at a true mean loss of the margin, the larger of one suite and three."""
    policy = GatePolicy()
    planned = policy.planned_items(ITEMS, pool)
    alpha, again = levels(policy, pool, planned, by_margin=True)
    worst = 0.0
    for suites in (1, 3):
        shown = 0
        for _ in range(simulations // BLOCKS):
            pools = Pools(margins, suites, pool, generator, by_margin=True)
            flips = flip_chances(pools.margin, churn, 0, generator)
            d = changes(flips, loss_chances(pattern, pools.margin, flips), generator)
            first, second = (pools.look(d, n) for n in (ITEMS, planned))
            shown += int(((pooled(first, MARGIN, alpha) == PASS) | (pooled(second, MARGIN, again) == PASS)).sum())
        worst = max(worst, shown / simulations)
    return worst


def blocked(margins: Floats, churn: float, simulations: int, generator: np.random.Generator, *, by_margin: bool) -> tuple[float, float]:
    """P(BLOCK) of a round that lost nothing, and of one whose first skill truly lost 5 points everywhere."""
    policy, found = GatePolicy(), []
    for loss in (0.0, 0.05):
        count = 0
        for _ in range(simulations // BLOCKS):
            pools = Pools(margins, len(CATEGORIES), 1000, generator, by_margin=by_margin)
            losses = np.zeros(pools.margin.shape)
            losses[0] = loss
            flips = flip_chances(pools.margin, churn, 0, generator)
            first = pools.look(changes(flips, np.minimum(losses, 1.0 - flips), generator), ITEMS)
            count += int((judge_drawn(first, CATEGORIES, policy, policy.alpha) == BLOCK).sum())
        found.append(count / simulations)
    return found[0], found[1]


def ratchet(margins: Floats, churn: float, lineages: int, generator: np.random.Generator, *, by_margin: bool) -> Floats:
    """True loss (points) that got through in ROUNDS rounds of which each candidate truly loses LOSS on every suite; one number a lineage.

    Compared with champion and anchors on the same items every round; their margins grow old with every promoted round.
    """
    policy, lost = GatePolicy(), []
    for _ in range(max(1, lineages // BLOCKS)):
        pools = Pools(margins, len(CATEGORIES), 1000, generator, by_margin=by_margin)
        spread = spread_of(pools.margin, churn)
        now = np.broadcast_to(pools.margin, (BLOCKS, *pools.margin.shape)).copy()
        anchor = generator.random(now.shape) < RIGHT
        champion, promoted = anchor.copy(), np.zeros(BLOCKS, dtype=np.int64)
        for _ in range(ROUNDS):
            flips = special.ndtr(-now / spread)
            flips *= churn / flips.mean((1, 2), keepdims=True)
            right = (RIGHT - LOSS * promoted)[:, None, None]
            chance = np.where(champion, (flips / 2 + LOSS) / right, flips / 2 / (1.0 - right))
            candidate = champion ^ (generator.random(now.shape) < chance)
            d, since = (candidate.astype(float) - each.astype(float) for each in (champion, anchor))
            passed = judge_drawn(pools.look(d, ITEMS), CATEGORIES, policy, policy.alpha, pools.look(since, ITEMS)) == PASS
            champion[passed] = candidate[passed]
            now[passed] = np.abs(now[passed] + spread * generator.standard_normal(now[passed].shape))
            promoted[passed] += 1
        lost.append(100 * LOSS * promoted)
    return np.concatenate(lost)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return lines + [f"| {' | '.join(f'{cell:.3f}' if isinstance(cell, float) else str(cell) for cell in row)} |" for row in rows]


def tables(margins: dict[str, Floats], simulations: int, lineages: int, seed: int) -> list[str]:
    generator = np.random.default_rng([14, seed])
    compared = check_against_gate(margins["piqa"], generator, look)
    percent: Callable[[float], str] = lambda churn: f"{100 * churn:g} %"  # noqa: E731
    powers = [
        [name, percent(churn), how, *power(each, churn, age, simulations, generator, by_margin=how != "evenly")]
        for name, each in margins.items()
        for churn in CHURNS
        for how, age in [("evenly", 0), *((f"by margin, {age} round{'s' * (age != 1)} old", age) for age in AGES)]
    ]
    sizes = [
        [name, f"{pool:,}", percent(churn), *(size_over_looks(each, pool, churn, pattern, simulations, generator) for pattern in PATTERNS)]
        for name, each in margins.items()
        for pool, churns in ((1000, (0.0, *CHURNS)), (4000, (0.0, 0.05) if name == "piqa" else ()))
        for churn in churns
    ]
    hard = [
        [
            kind,
            percent(churn),
            *(hard_shown(margins["piqa"], kind, suites, churn, max(200, 2 * simulations // 5), generator) for suites in (1, 3)),
        ]
        for kind in ("passages of 4 items that move together", "one suite drawn, others not")
        for churn in (0.02, 0.10)
    ]
    blocks = [
        [name, percent(churn), how, *blocked(each, churn, simulations, generator, by_margin=how != "evenly")]
        for name, each in margins.items()
        for churn in CHURNS
        for how in ("evenly", "by margin")
    ]
    through = {
        (churn, how): ratchet(margins["piqa"], churn, lineages, generator, by_margin=how != "evenly")
        for churn in (0.05, 0.10)
        for how in ("evenly", "by margin")
    }
    lost = [
        [percent(churn), how, f"{each.mean() / (100 * LOSS):.1f}", f"{each.mean():.1f}", f"{np.quantile(each, 0.95):.1f}"]
        for (churn, how), each in through.items()
    ]
    return [
        f"{simulations:,} draws per cell ({2 * simulations // 5} for the harder cases), {lineages} lineages per row, seed {seed}; "
        f"{compared} draws were also judged by `evals.gate`, with equal answers. 400 items of each suite are read.",
        *("", "**Power**: nothing lost, pools of 1,000.", ""),
        *table(["margins of", "churn", "items drawn", "general suites", "skills", "both", "both, over two looks"], powers),
        *("", "**Size over both looks**: a true mean loss of 2 points, put where it says; the larger of one suite and three.", ""),
        *table(["margins of", "pool", "churn", *PATTERNS], sizes),
        *("", "The same for harder cases, pools of 1,000, margins of PIQA, loss everywhere but where it says:", ""),
        *table(["case", "churn", "one suite", "three suites"], hard),
        *("", "**Blocks** at one look, five skills and three general suites, pools of 1,000.", ""),
        *table(["margins of", "churn", "items drawn", "nothing lost", "one skill −5 points"], blocks),
        *(
            "",
            f"**The ratchet**: every candidate truly loses {100 * LOSS:g} points; {ROUNDS} rounds; margins of PIQA, those of the base.",
            "",
        ),
        *table(["churn", "items drawn", "promoted", "points lost in all: mean", "95th percentile"], lost),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--lineages", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--margins", type=Path, default=Path("docs/results/gate-margins.jsonl"))
    parser.add_argument("--out", type=Path, default=None, help="folder of gate.md; none: print only")
    options = parser.parse_args()
    read = [json.loads(line) for line in options.margins.read_text(encoding="utf-8").splitlines()]
    names = dict.fromkeys(row["suite"] for row in read)
    margins = {name: np.array([row["margin"] for row in read if row["suite"] == name]) for name in names}
    text = "\n".join(tables(margins, options.simulations, options.lineages, options.seed))
    print(text)
    if options.out:
        page = options.out / "gate.md"
        before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
        page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
