"""Average accuracy, backward transfer, forgetting and forward transfer of a lineage, each with a paired bootstrap interval.

The change of one suite, which is no mean over suites, has the interval of the gate's paired test.

Definitions after Lopez-Paz and Ranzato (2017, arXiv:1706.08840) and Chaudhry et al. (2018, arXiv:1801.10112). With T the last row and
i_j the row that learned skill j:

    average accuracy = mean_j R[T, j]                        over the skills learned so far
    BWT              = mean_j R[T, j] - R[i_j, j]            over the skills learned before T
    forgetting       = mean_j max_{i_j <= t < T} R[t, j] - R[T, j]
    forward transfer = mean_j R[i_j - 1, j] - R[0, j]        over the skills learned after the first, measured before they were learned
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from data_contracts.manifests import Record
from evals.audit.matrix import Estimate, SuiteTable, estimate_from_samples, tidy
from evals.statistics import interval, paired_difference, relative_change
from evals.weighted import weighted_difference

__all__ = ["Transfer", "estimate_change", "measure_transfer"]

Floats = NDArray[np.float64]
ALPHA = 0.05
"""One-sided: the intervals are 90 %."""


class Transfer(Record):
    """None where no skill qualifies (a lineage of one round has no backward transfer)."""

    average_accuracy: Estimate | None = None
    average_accuracy_base: Estimate | None = Field(None, description="the base on the same skills: what doing nothing gives")
    bwt: Estimate | None = None
    forgetting: Estimate | None = None
    forward_transfer: Estimate | None = None


def estimate_change(table: SuiteTable, row: int, reference: int) -> Estimate:
    """Score of `row` minus that of `reference`, in the suite's own unit; both rows must be measured.

    Its interval is the one that the gate gives the same change at 90 %, so that a page of a round and one of the lineage do not differ.
    """
    value, base = table.mean(row) - table.mean(reference), table.mean(reference)
    before, after, cluster = table.scores[reference], table.scores[row], table.newest.cluster
    if table.category == "drift":
        difference = relative_change(before, after, table.newest.weight, cluster)
        low, high = (-base * end for end in reversed(interval(difference, ALPHA)))
    else:
        pool, weight, d = table.newest.drawn_from, table.newest.weight, after - before
        difference = paired_difference(d, cluster) if pool is None else weighted_difference(d, weight, cluster, pool)
        low, high = (max(-1.0, min(1.0, end)) for end in interval(difference, ALPHA))
    if not (math.isfinite(low) and math.isfinite(high)):  # one item, or one passage: nothing is known of its spread
        return estimate_from_samples(value, table.samples(row) - table.samples(reference), table.n)
    return Estimate(value=tidy(value), low=tidy(low), high=tidy(high), n=table.n)


def measure_transfer(tables: Sequence[SuiteTable], rows: Sequence[int], learned: Mapping[str, int]) -> Transfer:
    """Summaries over the skills' gate splits; `rows` are the rows of the lineage in order, `learned` gives each skill's row."""
    skills = [table for table in tables if table.name in learned and table.score(rows[-1]) is not None]
    base, last = rows[0], rows[-1]
    older = [table for table in skills if learned[table.name] < last and table.score(learned[table.name]) is not None]
    based = [table for table in skills if table.score(base) is not None]
    forward: list[tuple[Floats, int]] = []
    for table in based:
        before = rows[rows.index(learned[table.name]) - 1] if learned[table.name] in rows[1:] else base
        if before != base and table.score(before) is not None:
            forward.append((_with_mean(table, before) - _with_mean(table, base), table.n))
    return Transfer(
        average_accuracy=_mean_over_skills([(_with_mean(table, last), table.n) for table in skills]),
        average_accuracy_base=_mean_over_skills([(_with_mean(table, base), table.n) for table in based])
        if len(based) == len(skills)
        else None,
        bwt=_mean_over_skills([(_with_mean(table, last) - _with_mean(table, learned[table.name]), table.n) for table in older]),
        forgetting=_mean_over_skills([(_forgetting(table, rows, learned[table.name]), table.n) for table in older]),
        forward_transfer=_mean_over_skills(forward),
    )


def _with_mean(table: SuiteTable, row: int) -> Floats:
    """The point estimate, then the bootstrap samples: one vector, so that arithmetic on it carries both."""
    return np.concatenate([[table.mean(row)], table.samples(row)])


def _forgetting(table: SuiteTable, rows: Sequence[int], learned: int) -> Floats:
    earlier = [row for row in rows[:-1] if row >= learned and table.score(row) is not None]
    best: Floats = np.max(np.stack([_with_mean(table, row) for row in earlier]), axis=0)
    return best - _with_mean(table, rows[-1])


def _mean_over_skills(parts: Sequence[tuple[Floats, int]]) -> Estimate | None:
    if not parts:
        return None
    joint = np.mean(np.stack([vector for vector, _ in parts]), axis=0)
    return estimate_from_samples(float(joint[0]), joint[1:], sum(n for _, n in parts))
