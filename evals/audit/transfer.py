"""Average accuracy, backward transfer, forgetting and forward transfer of a lineage, each with a paired bootstrap interval.

The change of one suite, which is no mean over suites, has the interval of the gate's paired test.

Definitions after Lopez-Paz and Ranzato (2017, arXiv:1706.08840) and Chaudhry et al. (2018, arXiv:1801.10112). With T the last row and
i_j the row that learned skill j:

    average accuracy = mean_j R[T, j]                        over the skills learned so far
    BWT              = mean_j R[T, j] - R[i_j, j]            over the skills learned before T
    forgetting       = mean_j R[t*, j] - R[T, j]             with t* the best of the rows i_j <= t < T
    forward transfer = mean_j R[i_j - 1, j] - R[0, j]        over the skills learned after the first, measured before they were learned

The best of several noisy scores is too high by luck alone, so that the papers' forgetting is above 0 where nothing was lost (and its
interval with it). Here t* is chosen on one half of the items and compared on the other (cross-fitting, averaged over SPLITS halvings);
`forgetting_as_published` has the number of the papers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from data_contracts.manifests import Record
from evals.audit.matrix import Estimate, SuiteTable, estimate_from_samples, tidy
from evals.statistics import cluster_codes, interval, paired_difference, relative_change
from evals.weighted import weighted_difference

__all__ = ["Transfer", "estimate_change", "measure_transfer"]

Floats = NDArray[np.float64]
ALPHA = 0.05
"""One-sided: the intervals are 90 %."""
SPLITS = 10
"""Halvings of the items that forgetting is averaged over, so that it depends on no single one."""


class Transfer(Record):
    """None where no skill qualifies (a lineage of one round has no backward transfer)."""

    average_accuracy: Estimate | None = None
    average_accuracy_base: Estimate | None = Field(None, description="the base on the same skills: what doing nothing gives")
    bwt: Estimate | None = None
    forgetting: Estimate | None = None
    forgetting_as_published: float | None = Field(None, description="with t* chosen on the items that it is compared on: too high by luck")
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
        forgetting=_mean_over_skills([(lost, table.n) for table in older if (lost := _forgetting(table, rows, learned)) is not None]),
        forgetting_as_published=_mean_over_tables([_loss_of_the_maximum(table, rows, learned) for table in older]),
        forward_transfer=_mean_over_skills(forward),
    )


def _with_mean(table: SuiteTable, row: int) -> Floats:
    """The point estimate, then the bootstrap samples: one vector, so that arithmetic on it carries both."""
    return np.concatenate([[table.mean(row)], table.samples(row)])


def _earlier(table: SuiteTable, rows: Sequence[int], learned: Mapping[str, int]) -> list[int]:
    """The rows since a skill was learned that have it, without the last; the newest first."""
    return [row for row in reversed(rows[:-1]) if row >= learned[table.name] and table.score(row) is not None]


def _forgetting(table: SuiteTable, rows: Sequence[int], learned: Mapping[str, int]) -> Floats | None:
    """As `_with_mean`; None where the items cannot be halved: all of one passage, or a single one.

    Every resample chooses its own best rows, so that the interval has the noise of the choice.
    """
    items, sign, repeats = table.newest, 1.0 if table.higher_is_better else -1.0, table.resampled.shape[1]
    codes = cluster_codes(table.n, items.cluster)
    passages = int(codes.max()) + 1
    if passages < 2:
        return None
    measured = [*_earlier(table, rows, learned), rows[-1]]
    sums: Floats = np.stack([np.bincount(codes, weights=sign * table.scores[row] * items.weight) for row in measured]).astype(np.float64)
    mass: Floats = np.bincount(codes, weights=items.weight).astype(np.float64)
    generator, found = np.random.default_rng(0), [loss_against_best(sums, mass, np.ones((passages, 1)))]
    for start in range(0, repeats, 100):  # a hundred at a time: the counts of all would take gigabytes for a large suite
        drawn = generator.multinomial(passages, np.full(passages, 1.0 / passages), size=min(100, repeats - start)).T
        found.append(loss_against_best(sums, mass, drawn.astype(np.float64)))
    return np.concatenate(found)


def loss_against_best(sums: Floats, mass: Floats, counts: Floats, splits: int = SPLITS) -> Floats:
    """Score of the best row minus that of the last, the best chosen on one half of the passages and compared on the other.

    sums: scores times weights of each passage (rows x passages; those earlier win ties), mass: its weight (passages), counts: how often
    each resample drew it (passages x resamples). Gives one number per resample, the mean over `splits` random halvings.
    """
    generator, passages = np.random.default_rng(0), len(mass)
    everything, of_all = sums @ counts, mass @ counts
    best = np.zeros(counts.shape[1])
    for _ in range(splits):
        drawn = counts * (generator.permutation(passages) < passages // 2)[:, None]
        one, of_one = sums[:-1] @ drawn, mass @ drawn
        other, of_other = everything[:-1] - one, of_all - of_one
        for chosen_on, weighing, read_on in ((one, of_one, other), (other, of_other, one)):
            means = chosen_on / np.where(weighing > 0.0, weighing, 1.0)
            best += np.take_along_axis(read_on, means.argmax(axis=0)[None], axis=0)[0]
    found: Floats = (best / splits - everything[-1]) / of_all
    return found


def _loss_of_the_maximum(table: SuiteTable, rows: Sequence[int], learned: Mapping[str, int]) -> float:
    """max over t of R[t, j] - R[T, j], all on the same items (Chaudhry et al. 2018, equation 3)."""
    sign = 1.0 if table.higher_is_better else -1.0
    return max(sign * table.mean(row) for row in _earlier(table, rows, learned)) - sign * table.mean(rows[-1])


def _mean_over_tables(values: Sequence[float]) -> float | None:
    return tidy(float(np.mean(values))) if values else None


def _mean_over_skills(parts: Sequence[tuple[Floats, int]]) -> Estimate | None:
    if not parts:
        return None
    joint = np.mean(np.stack([vector for vector, _ in parts]), axis=0)
    return estimate_from_samples(float(joint[0]), joint[1:], sum(n for _, n in parts))
