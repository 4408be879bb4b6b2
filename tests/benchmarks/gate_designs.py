"""Would items drawn by the champion's margin decide sooner? A simulation from measured margins; the gate does not do this.

    python tests/benchmarks/gate_designs.py [--simulations 20000] [--seed 0] [--margins docs/results/gate-margins.jsonl]

Prints the table of docs/results/gate.md, "Items drawn by margin".

Assumed, not measured: a round shifts each item's margin by a normal amount, the same spread for all, so that an item of margin m flips with
a chance of Phi(-m / spread); the spread is set to the churn. Measured: the margins. The pool is cut into ten strata of equal size by
margin; a stratum gets items in proportion to sqrt(p), where p is its chance to flip by that model and at least a quarter of the mean
churn. The estimator weights strata by their share of the pool and is unbiased whatever the model is worth; its variance is that of the
strata, with losses and gains scaled to what the hypothesis says (Tango's restricted estimate of the weighted shares).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

Floats = NDArray[np.float64]
STRATA, ITEMS, MARGIN, ALPHA = 10, 400, 0.02, 0.05
GENERAL, SKILLS = 3, 5


def flip_shares(margins: Floats, churn: float) -> Floats:
    """Chance to flip in each stratum, from the smallest margins to the largest, with a mean of `churn`."""
    spread = optimize.brentq(lambda s: float(stats.norm.cdf(-margins / s).mean()) - churn, 1e-3, 1e3)
    chance = stats.norm.cdf(-np.sort(margins) / spread)
    return np.array([part.mean() for part in np.array_split(chance, STRATA)])


def allocation(shares: Floats) -> Floats:
    """Items of each stratum, ITEMS in all."""
    wanted = np.sqrt(np.maximum(shares, shares.mean() / 4))
    return np.maximum(2, np.round(ITEMS * wanted / wanted.sum())).astype(np.int64)


def losses(pattern: str, shares: Floats) -> Floats:
    """Additional chance of a loss in each stratum, MARGIN on average."""
    where = {"everywhere": np.ones(STRATA), "where margins are small": shares, "where margins are large": np.arange(STRATA) >= STRATA // 2}
    weight = np.asarray(where[pattern], dtype=np.float64)
    return MARGIN * weight / weight.mean()


def shown(lost: Floats, won: Floats, items: Floats) -> Floats:
    """Whether the margin is ruled out, per draw; counts are draws x suites x strata, all suites with the same `items`."""
    fell, rose = lost / items, won / items
    a, b = fell.mean(2).mean(1), rose.mean(2).mean(1)
    under = -(a + b) - (2.0 - b + a) * MARGIN
    null_lost = (np.sqrt(under**2 - 8.0 * a * MARGIN * (1.0 + MARGIN)) - under) / 4.0
    null_won = null_lost - MARGIN
    with np.errstate(divide="ignore", invalid="ignore"):
        more = np.where(a > 0, null_lost / a, 1.0)[:, None, None]
        fewer = np.where(b > 0, np.maximum(null_won, 0.0) / b, 1.0)[:, None, None]
    p, q = fell * more, rose * fewer
    suites = lost.shape[1]
    variance = ((p + q - (q - p) ** 2) / items / STRATA**2).sum((1, 2)) / suites**2
    plain = ((fell + rose - (rose - fell) ** 2) / (items - 1) / STRATA**2).sum((1, 2)) / suites**2
    least = (MARGIN - MARGIN**2) / (items.sum() * suites)
    mean = b - a
    z = (mean + MARGIN) / np.sqrt(np.maximum(np.maximum(variance, plain), least))
    return np.asarray(z >= stats.norm.isf(ALPHA))


def drawn(
    shares: Floats, loss: Floats, items: Floats, suites: int, simulations: int, generator: np.random.Generator
) -> tuple[Floats, Floats]:
    """(lost, won), draws x suites x strata."""
    chances = np.stack([shares / 2 + loss, shares / 2, 1.0 - shares - loss], axis=1)
    counts = np.stack([generator.multinomial(n, p, size=(simulations, suites)) for n, p in zip(items, chances, strict=True)], axis=2)
    return counts[..., 0].astype(np.float64), counts[..., 1].astype(np.float64)


def rows(margins: dict[str, Floats], churns: Sequence[float], simulations: int, seed: int) -> list[str]:
    generator = np.random.default_rng([13, seed])
    lines = [
        "| margins of | churn | variance x | honest: general suites | skills | both | size: loss everywhere | at small margins | at large "
        "margins |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, each in margins.items():
        for churn in churns:
            shares = flip_shares(each, churn)
            items = allocation(shares)
            ratio = (shares / items / STRATA**2).sum() / (churn / ITEMS)
            none = np.zeros(STRATA)
            general, skills = (
                float(shown(*drawn(shares, none, items, suites, simulations, generator), items).mean()) for suites in (GENERAL, SKILLS)
            )
            sizes = [
                max(
                    float(shown(*drawn(shares, losses(pattern, shares), items, suites, simulations, generator), items).mean())
                    for suites in (1, GENERAL)
                )
                for pattern in ("everywhere", "where margins are small", "where margins are large")
            ]
            size_words = " | ".join(f"{size:.3f}" for size in sizes)
            powers = f"{general:.3f} | {skills:.3f} | {general * skills:.3f}"
            lines.append(f"| {name} | {100 * churn:.0f} % | {ratio:.2f} | {powers} | {size_words} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--simulations", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--margins", type=Path, default=Path("docs/results/gate-margins.jsonl"))
    options = parser.parse_args()
    read = [json.loads(line) for line in options.margins.read_text(encoding="utf-8").splitlines()]
    names = dict.fromkeys(row["suite"] for row in read)
    margins = {name: np.array([row["margin"] for row in read if row["suite"] == name]) for name in names}
    for name, each in margins.items():
        flipped = [row["margin"] for row in read if row["suite"] == name and row["champion"] != row["candidate"]]
        ranks = ", ".join(f"{100 * float((each < margin).mean()):.0f} %" for margin in flipped)
        print(f"{name}: {len(each)} items, median margin {np.median(each):.2f} nats, {len(flipped)} flipped, of smaller margin: {ranks}")
    print("\n".join(rows(margins, (0.02, 0.05, 0.10), options.simulations, options.seed)))


if __name__ == "__main__":
    main()
