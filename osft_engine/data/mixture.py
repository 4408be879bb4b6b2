"""What a pass over the training data consists of: every row of the drop once, and rows drawn anew from what is practised beside it.

A pool that holds more than a pass takes is gone through in turn: no row comes again before all others of its pool have come. Everything
is a function of seed and pass, so that a resumed run takes the same rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from osft_engine.data.batches import epoch_steps
from osft_engine.data.examples import Example


@dataclass(frozen=True)
class Pool:
    """Examples of which each pass takes `drawn`."""

    examples: tuple[Example, ...]
    drawn: int


@dataclass(frozen=True)
class Mixture:
    """own: rows of the drop, all of them in every pass; pools: rows of earlier rounds, and general text."""

    own: tuple[Example, ...]
    pools: tuple[Pool, ...] = ()

    @property
    def examples(self) -> tuple[Example, ...]:
        """All that a pass may take; the steps index it."""
        return (*self.own, *(each for pool in self.pools for each in pool.examples))

    @property
    def per_pass(self) -> int:
        """Examples in one pass."""
        return len(self.own) + sum(pool.drawn for pool in self.pools)

    @property
    def mean_tokens(self) -> float:
        """Tokens of an example in the mean over a pass."""
        groups = [(self.own, len(self.own)), *((pool.examples, pool.drawn) for pool in self.pools)]
        tokens = sum(drawn * sum(len(each.ids) for each in group) / len(group) for group, drawn in groups if group)
        return tokens / max(1, self.per_pass)

    def steps(self, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
        """Indices into `examples` of each optimiser step of one pass."""
        taken, start = list(range(len(self.own))), len(self.own)
        for number, pool in enumerate(self.pools):
            taken += [start + index for index in _in_turn(len(pool.examples), pool.drawn, seed * 1_009 + number, epoch)]
            start += len(pool.examples)
        return [[taken[index] for index in step] for step in epoch_steps(len(taken), batch_size, seed, epoch)]


def mixture(own: Sequence[Example], pools: Sequence[tuple[Sequence[Example], float]]) -> Mixture:
    """A mixture in which each pool makes up its share of a pass, or all of it comes once where it is smaller.

    A pool without examples leaves its place to the others.
    """
    there = [(tuple(examples), share) for examples, share in pools if examples and share > 0.0]
    passed = len(own) / (1.0 - sum(share for _, share in there))
    return Mixture(tuple(own), tuple(Pool(examples, min(len(examples), round(share * passed))) for examples, share in there))


def _in_turn(count: int, drawn: int, seed: int, epoch: int) -> list[int]:
    """Places epoch * drawn to (epoch + 1) * drawn of an endless row of shuffles of 0 to count - 1."""
    first, found = epoch * drawn, list[int]()
    for shuffle in range(first // count, (first + drawn - 1) // count + 1) if drawn else ():
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed * 1_000_003 + shuffle)).tolist()
        found += order[max(0, first - shuffle * count) : first + drawn - shuffle * count]
    return found
