"""Two checkpoints suite by suite: scores, the paired change with its interval, and how many items became worse or better."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from data_contracts.manifests import Category, Record
from evals.audit.matrix import Estimate, SuiteTable, tabulate_suites
from evals.audit.transfer import estimate_change
from evals.items import Evaluation

REPEATS = 1000


class SuiteDifference(Record):
    """One suite on two checkpoints, in the suite's own unit; `change` and the counts are None where only one of them was measured."""

    suite: str
    category: Category
    sealed: bool
    n: int
    one: float | None
    other: float | None
    change: Estimate | None = Field(None, description="other minus one, paired on items")
    worse: int | None = Field(None, description="items with a worse score on the other checkpoint")
    better: int | None = None


def compare_evaluations(
    one: Sequence[Evaluation], other: Sequence[Evaluation], labels: tuple[str, str]
) -> tuple[tuple[SuiteDifference, ...], tuple[str, ...]]:
    """Every suite of two checkpoints, and sentences about what cannot be compared. Each side: all reports of one checkpoint."""
    tables, gaps = tabulate_suites([one, other], labels, REPEATS)
    return tuple(_difference(table) for table in tables), tuple(gaps)


def _difference(table: SuiteTable) -> SuiteDifference:
    before, after = table.score(0), table.score(1)
    about = {"suite": table.name, "category": table.category, "sealed": table.sealed, "n": table.n, "one": before, "other": after}
    if before is None or after is None:
        return SuiteDifference.model_validate(about)
    gains = (table.scores[1] - table.scores[0]) * (1.0 if table.higher_is_better else -1.0)
    worse, better = int(np.count_nonzero(gains < 0)), int(np.count_nonzero(gains > 0))
    return SuiteDifference.model_validate({**about, "change": estimate_change(table, 1, 0), "worse": worse, "better": better})
