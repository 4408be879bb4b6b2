"""Items drawn by margins that are old, of other items, or upside down: what is left of the power, and whether the size holds.

    python tests/benchmarks/gate/gate_drawn_old.py [--simulations 1000] [--seed 3]

The setting of gate_drawn.py: 400 items are read of pools of 1,000 that are drawn from the margins of PIQA. `shuffled`: the margins say
nothing of their items. `upside down`: the items with the largest margins flip, which no model does; the size has to hold for any margins.
Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from gate_drawn import BLOCKS, CHURNS, ITEMS, MARGIN, Pools, changes, flip_chances, levels, loss_chances, table
from gate_drawn_rules import Floats, pooled
from gate_rules import PASS

from evals.gate.policy import GatePolicy

POOL = 1000
KINDS = ("new", "4 rounds old", "12 rounds old", "shuffled", "upside down")
PATTERNS = ("everywhere", "small margins", "upper half")


def flips_of(kind: str, margin: Floats, churn: float, generator: np.random.Generator) -> Floats:
    """Each item's chance to flip; `margin` (suites x pool) draws the items."""
    if kind.endswith("old"):
        return flip_chances(margin, churn, int(kind.split()[0]), generator)
    flips = flip_chances(margin, churn, 0, generator)
    if kind == "shuffled":
        return generator.permuted(flips, axis=1)
    if kind == "upside down":
        return np.take_along_axis(np.sort(flips, axis=1), margin.argsort(1).argsort(1), axis=1)
    return flips


def shown(
    margins: Floats, kind: str, churn: float, pattern: str | None, suites: int, simulations: int, generator: np.random.Generator
) -> tuple[float, float]:
    """P(shown) at the first look if it is the only one, and over both looks. `pattern`: where a true loss of MARGIN is; None: no loss."""
    policy, once, twice = GatePolicy(), 0, 0
    alpha, again = levels(policy, POOL, POOL, by_margin=True)
    for _ in range(simulations // BLOCKS):
        pools = Pools(margins, suites, POOL, generator, by_margin=True)
        flips = flips_of(kind, pools.margin, churn, generator)
        losses = np.zeros(flips.shape) if pattern is None else loss_chances(pattern, pools.margin, flips)
        d = changes(flips, losses, generator)
        first, second = pools.look(d, ITEMS), pools.look(d, POOL)
        once += int((pooled(first, MARGIN, policy.alpha) == PASS).sum())
        twice += int(((pooled(first, MARGIN, alpha) == PASS) | (pooled(second, MARGIN, again) == PASS)).sum())
    return once / simulations, twice / simulations


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--margins", type=Path, default=Path("docs/results/gate-margins.jsonl"))
    options = parser.parse_args()
    read = [json.loads(line) for line in options.margins.read_text(encoding="utf-8").splitlines()]
    margins = np.array([row["margin"] for row in read if row["suite"] == "piqa"])
    generator, n = np.random.default_rng([16, options.seed]), options.simulations
    rows = []
    for churn in CHURNS:
        for kind in KINDS:
            power = shown(margins, kind, churn, None, 3, n, generator)
            sizes = [max(shown(margins, kind, churn, each, suites, n, generator)[1] for suites in (1, 3)) for each in PATTERNS]
            rows.append([f"{100 * churn:g} %", kind, *power, *sizes])
            print(table([""], [rows[-1]])[-1], file=sys.stderr, flush=True)
    head = ["churn", "margins", "power, one look", "power, two looks", *(f"size, loss {pattern}" for pattern in PATTERNS)]
    print("\n".join(table(head, rows)))


if __name__ == "__main__":
    main()
