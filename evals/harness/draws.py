"""The draw of a suite's items by margin, from the evaluation that a round has named: pure arithmetic is in `evals.drawing`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_contracts.digests import value_digest
from data_contracts.errors import EvaluationError
from evals.config import SuiteConfig
from evals.drawing import inclusion_chances, item_sizes
from evals.items import DrawnPool, load_evaluation


@dataclass(frozen=True)
class Drawn:
    """How a suite's items were drawn from its pool: by the margins of the model `by` (its sha256)."""

    by: str
    pool: DrawnPool

    def weights(self, doc_hashes: Sequence[str]) -> list[float]:
        """1 / chance of each item."""
        chance = dict(zip(self.pool.doc_hash, self.pool.chance, strict=True))
        return [1.0 / float(chance[doc_hash]) for doc_hash in doc_hashes]

    @property
    def digest(self) -> str:
        """Of all that decides who is read and how much it counts."""
        return value_digest([self.by, self.pool.doc_hash, [float(each) for each in self.pool.margin]])


def draw_by_margin(suite: SuiteConfig, doc_hashes: Sequence[str]) -> Drawn:
    """Every item's chance to be read, by the margins of the evaluation that the suite names.

    Raises EvaluationError where there is none, or where it lacks an item or a margin.
    """
    if not suite.pool:
        what = "draws its items by margin, and no model was read on all of them"
        raise EvaluationError(suite.name, what, "evaluate it in a round, or leave out `draw: margin`")
    read = load_evaluation(Path(suite.pool), [suite.name])
    items = read.suites[suite.name]
    known = dict(zip(items.doc_hash, items.margin, strict=True))
    margins = [known.get(doc_hash) for doc_hash in doc_hashes]
    missing = sum(1 for margin in margins if margin is None)
    if missing:
        what = f"draws its items by margin, and {missing} of {len(margins)} have none"
        raise EvaluationError(suite.name, what, "draw: margin is for items with choices; leave it out for this suite")
    distance = np.abs(np.array(margins, dtype=np.float64))
    chance = inclusion_chances(item_sizes(distance), suite.items or len(margins))
    return Drawn(read.model_sha256, DrawnPool(tuple(doc_hashes), distance, chance))
