"""Two checkpoints on the same items: what the gate compares, and whether the reference could have shown anything."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from data_contracts.manifests import Category
from evals.items import SuiteItems
from evals.statistics import Difference, effective_draws, mcnemar_p, p_above, p_below, paired_difference
from evals.weighted import largest_weight, pool_clusters, pool_rows, weighted_difference, weighted_draws


@dataclass(frozen=True)
class Pair:
    """One suite on the candidate and on a reference, in the candidate's order; d is candidate minus reference, positive is better."""

    candidate: SuiteItems
    reference: SuiteItems
    reference_sha256: str
    d: NDArray[np.float64]
    difference: Difference

    @property
    def name(self) -> str:
        return self.candidate.name

    @property
    def category(self) -> Category:
        return self.candidate.category

    @property
    def margin(self) -> float | None:
        """The margin that the suite's owner set for it, as today's report has it; None: the policy's."""
        return self.candidate.result.margin

    @property
    def n(self) -> int:
        return len(self.d)

    @property
    def drawn_from(self) -> int | None:
        """Items of the pool that these were drawn from by margin; None: they were drawn with equal chances."""
        return self.candidate.drawn_from

    @property
    def rows(self) -> NDArray[np.float64]:
        """What is averaged, one row per draw: d, or d by its weight and a zero for every item of the pool that was not read."""
        return self.d if self.drawn_from is None else pool_rows(self.d, self.candidate.weight, self.drawn_from)

    @property
    def clusters(self) -> tuple[str | None, ...]:
        """The passages of the rows."""
        return self.candidate.cluster if self.drawn_from is None else pool_clusters(self.candidate.cluster, self.drawn_from)

    @property
    def largest(self) -> float:
        """The largest loss that a row can show."""
        return 1.0 if self.drawn_from is None else largest_weight(self.candidate.weight, self.drawn_from)

    @property
    def draws(self) -> float:
        """Independent draws that the rows are worth: fewer than rows where items share passages."""
        if self.drawn_from is None:
            return effective_draws(self.d, self.candidate.cluster)
        return weighted_draws(self.d, self.candidate.weight, self.candidate.cluster, self.drawn_from)

    @property
    def lost(self) -> int:
        """Items that became worse."""
        return int((self.d < 0).sum())

    @property
    def won(self) -> int:
        return int((self.d > 0).sum())

    @property
    def binary(self) -> bool:
        """Whether every score is right or wrong, with nothing between."""
        return all(bool(np.isin(items.score, (0.0, 1.0)).all()) for items in (self.candidate, self.reference))

    @property
    def exact(self) -> bool:
        """Whether McNemar's exact test applies: scores are 0 or 1, no items share a passage and all count alike."""
        return self.drawn_from is None and self.binary and all(name is None for name in self.candidate.cluster)

    def p_loss(self) -> float:
        """One-sided p for H0: not worse. Exact McNemar, or a paired t where that does not apply."""
        if self.exact:
            return float(mcnemar_p(self.lost, self.won))
        return p_below(self.difference, 0.0) if self.lost + self.won else 1.0

    def p_gain(self) -> float:
        """One-sided p for H0: not better."""
        if self.exact:
            return float(mcnemar_p(self.won, self.lost))
        return 1.0 - p_below(self.difference, 0.0) if self.lost + self.won else 1.0


def reference_order(candidate: SuiteItems, reference: SuiteItems) -> NDArray[np.int64]:
    """Where the candidate's items lie in the reference. The validity check has made sure that they are there, once each."""
    position = {doc: index for index, doc in enumerate(reference.doc_hash)}
    return np.array([position[doc] for doc in candidate.doc_hash], dtype=np.int64)


def pair_suite(candidate: SuiteItems, reference: SuiteItems, reference_sha256: str) -> Pair:
    sign = 1.0 if candidate.result.higher_is_better else -1.0
    d = sign * (candidate.score - reference.score[reference_order(candidate, reference)])
    if candidate.drawn_from is None:
        return Pair(candidate, reference, reference_sha256, d, paired_difference(d, candidate.cluster))
    difference = weighted_difference(d, candidate.weight, candidate.cluster, candidate.drawn_from)
    return Pair(candidate, reference, reference_sha256, d, difference)


def majority_rate(items: SuiteItems) -> float | None:
    """Share of the commonest gold answer: the score of a model that always gives it. None where all golds are one, or are not recorded."""
    if items.drawn_from is not None:
        return _weighted_majority(items)
    golds = Counter(gold for gold in items.golds if gold)
    if len(golds) < 2:
        return None
    return max(golds.values()) / len(items.golds)


def _weighted_majority(items: SuiteItems) -> float | None:
    """The same where items were drawn by margin."""
    golds: dict[str, float] = {}
    for gold, weight in zip(items.golds, items.weight, strict=True):
        if gold:
            golds[gold] = golds.get(gold, 0.0) + float(weight)
    return max(golds.values()) / float(items.weight.sum()) if len(golds) >= 2 else None


def guessing_rate(items: SuiteItems) -> float | None:
    """What always giving the commonest answer scores. None where answers are not recorded, or lower is better."""
    if not items.result.higher_is_better or not items.golds or not all(items.golds):
        return None
    return max(Counter(items.golds).values()) / len(items.golds)


def why_uninformative(reference: SuiteItems, alpha: float, rules: int) -> str | None:
    """Why a reference cannot show that nothing was lost on this suite (a phrase), or None where it can.

    A model at chance level has nothing to lose: a reference not above its majority class, or with one answer to everything, would
    look unchanged whatever the training did. "Above" is tested (one-sided), so that luck does not count.
    """
    if not reference.result.higher_is_better:
        return None
    drawn_from = reference.drawn_from
    weight = None if drawn_from is None else reference.weight
    score, majority = float(np.average(reference.score, weights=weight)), majority_rate(reference)
    if not score > 0:
        return "the reference scores 0 on it, so it has nothing to lose"
    if majority is None:
        return None
    answers = {answer for answer in reference.answers if answer}
    if len(answers) == 1:
        return f"the reference answers {next(iter(answers))[:40]!r} to every item"
    if drawn_from is not None:
        above = p_above(weighted_difference(reference.score - majority, reference.weight, reference.cluster, drawn_from), 0.0)
    else:
        above = p_above_rate(reference, majority) if rules >= 6 else _p_above_before_rules_6(reference, majority)
    if not above <= alpha:
        return f"the reference scores {100 * score:.1f} %, not above its majority class ({100 * majority:.1f} %)"
    return None


def p_above_rate(items: SuiteItems, rate: float) -> float:
    """One-sided p for H0: the score is no better than `rate`. Exact where every score is right or wrong and no items share a passage."""
    if np.isin(items.score, (0.0, 1.0)).all() and all(name is None for name in items.cluster):
        return float(stats.binom.sf(items.score.sum() - 1, len(items.score), rate))
    return p_above(paired_difference(items.score - rate, items.cluster), 0.0)


def _p_above_before_rules_6(items: SuiteItems, rate: float) -> float:
    """Items of one passage counted as if they were independent, and of partial scores the mean alone decided."""
    if np.isin(items.score, (0.0, 1.0)).all():
        return float(stats.binom.sf(items.score.sum() - 1, len(items.score), rate))
    return 0.0 if float(items.score.mean()) > rate else 1.0
