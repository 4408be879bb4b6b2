"""Drawn items judged by `evals.gate` itself: whether the rules of gate_drawn_rules.py are the gate's, and the cases that these lack."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from gate_drawn_rules import Bools, Floats, Sample, pooled
from gate_rules import BLOCK, HOLD, PASS
from scipy import optimize, special

from data_contracts.digests import text_digest
from data_contracts.manifests import SuiteResult
from evals.drawing import LEAST_SIZE, inclusion_chances, item_sizes
from evals.gate.checks import non_inferiority
from evals.gate.pairing import Pair, pair_suite
from evals.gate.policy import GatePolicy, Level, Sizes
from evals.items import DrawnPool, SuiteItems

MARGIN, ITEMS, POOL, PASSAGE = 0.02, 400, 1000, 4
OUTCOMES = {"pass": PASS, "block": BLOCK, "inconclusive": HOLD}


def pair_of(name: str, d: Floats, read: Bools, chance: Floats | None, cluster: list[str | None] | None = None) -> Pair:
    """The gate's view of a suite of which `read` items were read, the candidate by d better than the reference. `chance` None: evenly."""
    hashes = tuple(f"{name}/{index}" for index in range(len(d)))
    n, reads = int(read.sum()), np.flatnonzero(read)
    pool = None if chance is None else DrawnPool(hashes, np.zeros(len(d)), chance)
    result = SuiteResult(
        name=name, category="general", metric="acc", higher_is_better=True, n=n, score=0.5, suite_sha256=text_digest(name), seconds=0,
        available=len(d), drawn_by="" if chance is None else "base",
    )  # fmt: skip

    def items(score: Floats) -> SuiteItems:
        own = tuple(hashes[index] for index in reads)
        many = tuple(str(index) for index in reads)
        weight = np.ones(n) if chance is None else 1.0 / chance[read]
        passages = (None,) * n if cluster is None else tuple(cluster[index] for index in reads)
        return SuiteItems(result, own, own, score, np.full(n, -1.0), weight, passages, many, many, many, pool=pool)

    before = np.where(d < 0, 1.0, np.where(d > 0, 0.0, 1.0))[read]
    return pair_suite(items(before + d[read]), items(before), text_digest("reference"))


def answer(pairs: list[Pair], alpha: float) -> int:
    outcome = non_inferiority("general", pairs, MARGIN, Level(alpha, alpha), GatePolicy(), "champion").outcome
    return OUTCOMES[outcome]


def check_against_gate(margins: Floats, generator: np.random.Generator, look: Callable[[Floats, Bools, Floats], Sample]) -> int:
    """Raise unless the vectorised rules and the gate agree on every sampled draw; returns how many were compared."""
    compared = 0
    for suites in (1, 3):
        for churn in (0.0, 0.03, 0.10):
            for loss in (0.0, 0.01, MARGIN, 0.04):
                u = generator.random((4, suites, POOL))
                d = np.where(u < churn / 2 + loss, -1.0, np.where(u < churn + loss, 1.0, 0.0))
                sizes = np.stack([item_sizes(generator.choice(margins, POOL)) for _ in range(suites)])
                chance = np.stack([inclusion_chances(each, ITEMS) for each in sizes])
                read = (generator.random(d.shape) / sizes).argsort(2).argsort(2) < ITEMS
                fast = pooled(look(d, read, np.broadcast_to(1.0 / chance, d.shape)), MARGIN, 0.05)
                for row in range(len(d)):
                    pairs = [pair_of(str(suite), d[row, suite], read[row, suite], chance[suite]) for suite in range(suites)]
                    if (slow := answer(pairs, 0.05)) != fast[row]:
                        raise AssertionError(
                            f"{suites} suites, churn {churn}, loss {loss}: the gate says {slow}, the simulation {fast[row]}"
                        )
                    compared += 1
    return compared


def hard_shown(margins: Floats, kind: str, suites: int, churn: float, simulations: int, generator: np.random.Generator) -> float:
    """P(shown) over both looks at a true mean loss of MARGIN, by the gate's own functions."""
    policy = GatePolicy()
    level = policy.level(1, [Sizes(ITEMS, int(np.ceil(POOL / LEAST_SIZE)), ITEMS)])
    clustered = kind.startswith("passages")
    names: list[str | None] | None = [str(index // PASSAGE) for index in range(POOL)] if clustered else None
    shown = 0
    for _ in range(simulations):
        looks: tuple[list[Pair], list[Pair]] = ([], [])
        for suite in range(suites):
            margin = generator.choice(margins, POOL)
            d = hard_changes(kind, margin, churn, generator)
            by_margin = suite == 0 or not kind.startswith("one suite")
            sizes = item_sizes(margin) if by_margin else np.ones(POOL)
            numbers = generator.random(POOL) / sizes
            read = numbers <= np.partition(numbers, ITEMS - 1)[ITEMS - 1]
            chance = inclusion_chances(sizes, ITEMS) if by_margin else None
            looks[0].append(pair_of(str(suite), d, read, chance, names))
            looks[1].append(pair_of(str(suite), d, np.ones(POOL, dtype=np.bool_), None, names))
        shown += answer(looks[0], level.alpha) == PASS or answer(looks[1], level.again) == PASS
    return shown / simulations


def hard_changes(kind: str, margin: Floats, churn: float, generator: np.random.Generator) -> Floats:
    """d of one candidate that truly loses MARGIN."""
    flips = np.zeros(len(margin))
    if churn > 0.0:
        spread = optimize.brentq(lambda s: float(special.ndtr(-margin / s).mean()) - churn, 1e-4, 1e4)
        flips = special.ndtr(-margin / spread)
    u = generator.random(len(margin))
    if kind.startswith("passages"):
        flips, u = np.repeat(flips[::PASSAGE], PASSAGE), np.repeat(u[::PASSAGE], PASSAGE)
    loss = np.minimum(MARGIN, 1.0 - flips)
    return np.where(u < flips / 2 + loss, -1.0, np.where(u < flips + loss, 1.0, 0.0))
