"""Size of one category's question where items share passages, or where the loss is concentrated: with the gate's own arithmetic.

A true mean loss of the margin on every suite; how often it is ruled out over both looks, by today's rules and by rules 3 (at one look).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from gate_rules import Floats

from evals.gate.policy import GatePolicy, Sizes
from evals.statistics import (
    effective_draws,
    not_below_null_variance,
    p_above,
    paired_difference,
    pool,
    with_null_variance,
)

MARGIN = 0.02
FIRST, SECOND = 400, 1000
PASSAGE = 4


@dataclass(frozen=True)
class Hard:
    """Shares of claims: by rules 3 at one look, and by today's rules over two."""

    once_by_rules_3: float
    twice: float


def flips(generator: np.random.Generator, n: int, churn: float) -> Floats:
    return generator.choice([-1.0, 0.0, 1.0], p=[churn / 2 + MARGIN, 1.0 - churn - MARGIN, churn / 2], size=n)


def passages(share: float) -> Callable[[np.random.Generator, int, float], Floats]:
    """Items of which this share does as their passage does, the others as they please."""

    def drawn(generator: np.random.Generator, n: int, churn: float) -> Floats:
        together = np.repeat(flips(generator, n // PASSAGE, churn), PASSAGE)
        return np.where(generator.random(n) < share, together, flips(generator, n, churn))

    return drawn


def concentrated(generator: np.random.Generator, n: int, churn: float) -> Floats:
    """Graded scores: 2 % of the items lose everything, the churn moves half a point, the rest hardly moves."""
    d = generator.normal(0.0, 0.02, n).clip(-1.0, 1.0)
    d = np.where(generator.random(n) < churn, generator.choice([-0.5, 0.5], size=n), d)
    return np.where(generator.random(n) < MARGIN, -1.0, d)


KINDS: dict[str, tuple[Callable[[np.random.Generator, int, float], Floats], bool]] = {
    "passages of 4 items that move together": (passages(1.0), True),
    "passages of 4 items, half of them together": (passages(0.5), True),
    "graded scores, the loss on 2 % of the items": (concentrated, False),
}


def shown(samples: list[Floats], clusters: list[str] | None, alpha: float, *, rules_3: bool = False) -> bool:
    """Whether the margin is ruled out, as evals.gate.checks does it."""
    parts = [paired_difference(d, clusters) for d in samples]
    binary = all(bool(np.isin(d, (-1.0, 0.0, 1.0)).all()) for d in samples)
    difference = pool(parts)
    if rules_3:
        difference = not_below_null_variance(difference, [len(d) for d in samples], MARGIN) if binary else difference
        return p_above(difference, -MARGIN) <= alpha
    draws = [effective_draws(d, clusters) for d in samples]
    difference = not_below_null_variance(difference, draws, MARGIN) if binary else difference
    return p_above(with_null_variance(difference, samples, [clusters] * len(samples), MARGIN), -MARGIN) <= alpha


def hard_sizes(simulations: int, policy: GatePolicy, seed: int) -> dict[tuple[str, int, float], Hard]:
    """(kind, suites, churn) -> sizes."""
    generator = np.random.default_rng([12, seed])
    level = policy.level(1, [Sizes(FIRST, SECOND, FIRST)])
    found = {}
    for kind, (drawn, clustered) in KINDS.items():
        names = [str(index // PASSAGE) for index in range(SECOND)] if clustered else None
        for suites in (1, 3):
            for churn in (0.0, 0.02, 0.05, 0.10):
                once = twice = 0
                for _ in range(simulations):
                    samples = [drawn(generator, SECOND, churn) for _ in range(suites)]
                    early = [d[:FIRST] for d in samples]
                    at_first = names[:FIRST] if names else None
                    once += shown(early, at_first, policy.alpha, rules_3=True)
                    twice += shown(early, at_first, level.alpha) or shown(samples, names, level.again)
                found[kind, suites, churn] = Hard(once / simulations, twice / simulations)
    return found
