"""What a small loss a round adds up to: lineages of 15 rounds whose every candidate is truly a little worse on every suite."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from gate_rules import PASS, Floats, Ints, judge
from numpy.typing import NDArray

from data_contracts.manifests import Category
from evals.gate.decide import GatePolicy

RIGHT = 0.75
LOSS, ROUNDS = 0.009, 15
GENERAL = 3
SKILLS = 5


@dataclass(frozen=True)
class History:
    """True loss (simulations x rounds) after each round, and how many rounds were promoted at the end."""

    oldest: Floats
    """of the suites that were there from the start"""
    mean: Floats
    """over all suites that were there then, each since it joined"""
    promoted: Ints


def ratchet(mode: str, n: int, churn: float, simulations: int, policy: GatePolicy, seed: int = 0) -> History:
    """Play lineages in which every candidate truly loses LOSS on every suite.

    A round that does not pass leaves the champion as it is, and the next one tries again. `champion`: compared with the champion only;
    `anchors`: also with where each suite joined, on the same items every round; `fresh`: the same, on items drawn anew every round;
    `joining`: as anchors, and every promoted round adds a skill whose anchor is that round.
    """
    generator = np.random.default_rng([11, seed])
    first = GENERAL + SKILLS
    shape = (simulations, first + (ROUNDS if mode == "joining" else 0), n)
    anchor = generator.random(shape, dtype=np.float32) < RIGHT
    champion = anchor.copy()
    promoted = np.zeros(simulations, dtype=np.int64)
    oldest, mean = np.empty((simulations, ROUNDS)), np.empty((simulations, ROUNDS))
    for number in range(ROUNDS):
        if mode == "fresh":
            anchor, champion = _drawn_anew(shape, promoted, churn, generator)
        for count in np.unique(promoted):
            rows = np.flatnonzero(promoted == count)
            suites = first + (int(count) if mode == "joining" else 0)
            ages = ages_of(int(count), first, suites)
            candidate = one_round(champion[rows, :suites], ages, churn, generator)
            since = None if mode == "champion" else counts(candidate, anchor[rows, :suites])
            categories: list[Category] = ["general"] * GENERAL + ["skill"] * (suites - GENERAL)
            passed = judge(*counts(candidate, champion[rows, :suites]), n, categories, policy, since) == PASS
            champion[rows[passed], :suites] = candidate[passed]
            promoted[rows[passed]] += 1
        oldest[:, number] = promoted * LOSS
        mean[:, number] = [LOSS * ages_of(k, first, first + (k if mode == "joining" else 0)).mean() for k in promoted]
    return History(oldest, mean, promoted)


def ages_of(promoted: int, first: int, suites: int) -> Floats:
    """Promoted rounds that each suite has been through: all of them for the first ones, one less for each that joined later."""
    return np.array([promoted] * first + [promoted - 1 - joined for joined in range(suites - first)], dtype=np.float64)


def one_round(state: NDArray[np.bool_], ages: Floats, churn: float, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Flip items so that LOSS of them are lost on balance and churn / 2 flip each way besides."""
    accuracy = (RIGHT - LOSS * ages)[None, :, None]
    flip = np.where(state, (churn / 2 + LOSS) / accuracy, (churn / 2) / (1 - accuracy)).astype(np.float32)
    return state ^ (generator.random(state.shape, dtype=np.float32) < flip)


def counts(candidate: NDArray[np.bool_], reference: NDArray[np.bool_]) -> tuple[Ints, Ints]:
    return (reference & ~candidate).sum(2), (candidate & ~reference).sum(2)


def _drawn_anew(
    shape: tuple[int, int, int], promoted: Ints, churn: float, generator: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(anchor, champion) of every lineage on new items."""
    anchor = generator.random(shape, dtype=np.float32) < RIGHT
    champion = anchor.copy()
    for step in range(int(promoted.max(initial=0))):
        active = promoted > step
        champion[active] = one_round(champion[active], np.full(shape[1], float(step)), churn, generator)
    return anchor, champion
