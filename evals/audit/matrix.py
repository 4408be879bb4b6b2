"""One suite over all rounds: items aligned, gaps named, and the bootstrap that the intervals of means over suites are read from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_contracts.manifests import Category, Record
from evals.gate.validity import item_faults
from evals.items import Evaluation, SuiteItems
from evals.statistics import bootstrap_means, percentile_interval, wilson_interval

Floats = NDArray[np.float64]


class Estimate(Record):
    """A number and its 90 % interval, paired on items; n counts items."""

    value: float
    low: float
    high: float
    n: int


def estimate_from_samples(value: float, samples: Floats, n: int) -> Estimate:
    low, high = percentile_interval(samples)
    return Estimate(value=tidy(value), low=tidy(low), high=tidy(high), n=n)


def tidy(value: float) -> float:
    return float(f"{value:.10g}")


@dataclass(frozen=True)
class SuiteTable:
    """Scores of one suite, (rows x n), NaN rows where a round has none; items in the order of the newest evaluation."""

    newest: SuiteItems
    scores: Floats
    logprobs: Floats
    predictions: tuple[tuple[str, ...] | None, ...]
    resampled: Floats
    """(rows x repeats): means of resampled items; every row sees the same resampled items."""
    resampled_logprobs: Floats | None

    @property
    def name(self) -> str:
        return self.newest.name

    @property
    def category(self) -> Category:
        return self.newest.category

    @property
    def metric(self) -> str:
        return self.newest.result.metric

    @property
    def higher_is_better(self) -> bool:
        return self.newest.result.higher_is_better

    @property
    def sealed(self) -> bool:
        return self.newest.result.sealed

    @property
    def n(self) -> int:
        return int(self.scores.shape[1])

    def score(self, row: int) -> float | None:
        """The mean, as the report of that round had it, or None where it was not measured."""
        return None if np.isnan(self.scores[row]).any() else tidy(self.mean(row))

    def mean(self, row: int) -> float:
        return float(np.average(self.scores[row], weights=self.newest.weight))

    def interval(self, row: int) -> tuple[float, float] | None:
        """The 90 % interval of the score: Wilson's where every item is right or wrong, as a bootstrap of equal items has no width."""
        if np.isnan(self.scores[row]).any():
            return None
        alike = self.category != "drift" and self.newest.drawn_from is None and not any(self.newest.cluster)
        if alike and bool(np.isin(self.scores[row], (0.0, 1.0)).all()):
            low, high = wilson_interval(float(self.scores[row].sum()), self.n)
        else:
            low, high = percentile_interval(self.samples(row))
        return tidy(low), tidy(high)

    def samples(self, row: int) -> Floats:
        samples: Floats = self.resampled[row]
        return samples

    def has_logprobs(self, row: int) -> bool:
        return self.resampled_logprobs is not None and not np.isnan(self.logprobs[row]).any()

    def mean_logprob(self, row: int) -> float:
        return tidy(self._logprob(row))

    def _logprob(self, row: int) -> float:
        return float(np.average(self.logprobs[row], weights=_item_weight(self.newest)))

    def logprob_change(self, row: int, reference: int) -> Estimate | None:
        if self.resampled_logprobs is None:
            return None
        value = self._logprob(row) - self._logprob(reference)
        return estimate_from_samples(value, self.resampled_logprobs[row] - self.resampled_logprobs[reference], self.n)


def _item_weight(items: SuiteItems) -> Floats | None:
    """What an item counts where a draw by margin says so; None: items count alike, also those of a text suite, whose weights are bytes."""
    return None if items.drawn_from is None else items.weight


def tabulate_suites(rows: Sequence[Sequence[Evaluation]], labels: Sequence[str], repeats: int) -> tuple[list[SuiteTable], list[str]]:
    """Every suite that any row has, in a reader's order (skills as learned, then general, safety, drift), and sentences about gaps."""
    held: dict[str, list[SuiteItems | None]] = {}
    for index, evaluations in enumerate(rows):
        for evaluation in evaluations:
            for name, items in evaluation.suites.items():
                held.setdefault(name, [None] * len(rows))[index] = items
    gaps: list[str] = []
    tables = [table for name in held if (table := _tabulate(name, held[name], labels, repeats, gaps)) is not None]
    gaps += _setting_gaps(rows, labels)
    order: dict[Category, int] = {"skill": 0, "general": 1, "safety": 2, "drift": 3}
    first = {name: next(row for row, items in enumerate(held[name]) if items is not None) for name in held}
    return sorted(tables, key=lambda table: (table.sealed, order[table.category], first[table.name])), gaps


def _setting_gaps(rows: Sequence[Sequence[Evaluation]], labels: Sequence[str]) -> list[str]:
    newest = rows[-1][0].report.settings_sha256
    other = [labels[index] for index, row in enumerate(rows) if any(each.report.settings_sha256 != newest for each in row)]
    return (
        [f"Evaluated with other settings than the newest round, so small differences may be the harness's: {', '.join(other)}."]
        if other
        else []
    )


def _tabulate(name: str, rows: Sequence[SuiteItems | None], labels: Sequence[str], repeats: int, gaps: list[str]) -> SuiteTable | None:
    newest = next(items for items in reversed(rows) if items is not None)
    faults = list(item_faults(newest))
    if faults:
        gaps.append(f"{name} cannot be audited: {'; '.join(faults)}.")
        return None
    aligned = [_align(items, newest, label, gaps) for items, label in zip(rows, labels, strict=True)]
    empty = np.full(newest.result.n, np.nan)
    scores = np.stack([empty if items is None else items.score for items in aligned])
    logprobs = np.stack([empty if items is None else items.gold_logprob for items in aligned])
    return SuiteTable(
        newest=newest,
        scores=scores,
        logprobs=logprobs,
        predictions=tuple(None if items is None else items.prediction for items in aligned),
        resampled=bootstrap_means(scores, newest.weight, newest.cluster, repeats=repeats),
        resampled_logprobs=None
        if np.isnan(logprobs).any(axis=1).all()
        else bootstrap_means(logprobs, _item_weight(newest), newest.cluster, repeats=repeats),
    )


def _align(items: SuiteItems | None, newest: SuiteItems, label: str, gaps: list[str]) -> SuiteItems | None:
    """A round's items in the newest order, or None with a sentence where they are not the same items."""
    if items is None or items is newest:
        return items
    if items.result.suite_sha256 != newest.result.suite_sha256 or set(items.doc_hash) != set(newest.doc_hash):
        gaps.append(f"{newest.name} changed after {label} (other items or prompts), so that round's score is not comparable and not shown.")
        return None
    before, now = (dict(zip(each.doc_hash, each.prompt_hash, strict=True)) for each in (items, newest))
    if changed := sum(before[doc] != now[doc] for doc in now):
        gaps.append(
            f"{newest.name}: {changed} items had another prompt after {label}, so that round's score is not comparable and not shown."
        )
        return None
    if faults := list(item_faults(items)):
        gaps.append(f"{newest.name} after {label} cannot be used: {'; '.join(faults)}.")
        return None
    position = {doc: index for index, doc in enumerate(items.doc_hash)}
    order = np.array([position[doc] for doc in newest.doc_hash], dtype=np.int64)
    return SuiteItems(
        result=items.result,
        doc_hash=newest.doc_hash,
        prompt_hash=tuple(items.prompt_hash[index] for index in order),
        score=items.score[order],
        gold_logprob=items.gold_logprob[order],
        weight=items.weight[order],
        cluster=newest.cluster,
        prompt=newest.prompt,
        gold=newest.gold,
        prediction=tuple(items.prediction[index] for index in order),
        pool=items.pool,
    )
