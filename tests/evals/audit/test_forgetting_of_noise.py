"""Forgetting is 0 where nothing was lost, however many noisy rounds the best is the best of, and finds what was lost."""

from __future__ import annotations

import numpy as np
import pytest

from data_contracts.manifests import Decision
from evals.audit.forgetting import RoundEvaluation, audit_forgetting
from evals.audit.transfer import loss_against_best

ROUNDS, ITEMS, CHURN = 6, 120, 0.15


def lineage(generator, make_suite, make_evaluation, lost: float = 0.0, cluster=None):
    """Scores of one skill that change on items at random and on average stay; `lost`: share of the right items that the last row loses."""
    ease = generator.beta(2.0, 1.0, ITEMS)
    rows = [RoundEvaluation(0, None, make_evaluation("base", make_suite("a", np.zeros(ITEMS), cluster=cluster)))]
    for number in range(1, ROUNDS + 1):
        score = (generator.random(ITEMS) < ease).astype(float)
        if number == ROUNDS:
            score[generator.random(ITEMS) < lost] = 0.0
        suites = [make_suite("a", score, cluster=cluster)]
        rows.append(RoundEvaluation(number, "a" if number == 1 else None, make_evaluation(f"m{number}", *suites), Decision.PASS))
    return rows


def test_a_lineage_of_noise_has_no_forgetting(make_suite, make_evaluation) -> None:
    """The interval excludes 0 about as often as a 90 % interval may; the papers' number is nearly always above 0."""
    generator, repeats = np.random.default_rng(5), 60
    found = [
        audit_forgetting(lineage(generator, make_suite, make_evaluation), base_skills=(), repeats=200).transfer for _ in range(repeats)
    ]
    means = [transfer.forgetting.value for transfer in found]
    published = [transfer.forgetting_as_published for transfer in found]
    error = np.std(means) / np.sqrt(repeats)
    assert abs(np.mean(means)) < 3 * error
    assert np.mean(published) > 5 * error, "the maximum is above what nothing lost gives"
    wrong = sum(not transfer.forgetting.low <= 0.0 <= transfer.forgetting.high for transfer in found)
    assert wrong <= 14, "binomial(60, 0.1) exceeds 14 once in a thousand times"


def test_a_loss_is_found_with_its_size(make_suite, make_evaluation) -> None:
    generator, repeats = np.random.default_rng(6), 20
    found = [
        audit_forgetting(lineage(generator, make_suite, make_evaluation, lost=0.5), base_skills=(), repeats=200).transfer
        for _ in range(repeats)
    ]
    assert all(transfer.forgetting.low > 0.0 for transfer in found)
    assert np.mean([transfer.forgetting.value for transfer in found]) == pytest.approx(0.5 * 2 / 3, abs=0.03)


def test_a_resample_is_judged_as_its_items_written_out() -> None:
    """The sums of a resample of passages give what the same halving of the repeated items gives, item by item."""
    generator = np.random.default_rng(7)
    scores, counts = generator.random((4, 10)), generator.integers(0, 3, (10, 1)).astype(float)
    half = np.random.default_rng(0).permutation(10) < 5
    [first], [second] = (np.repeat(np.flatnonzero(side), counts[side, 0].astype(int))[None] for side in (half, ~half))
    best = [scores[scores[:3, on].mean(axis=1).argmax(), read].sum() for on, read in ((first, second), (second, first))]
    items = np.concatenate([first, second])
    assert loss_against_best(scores, np.ones(10), counts, splits=1)[0] == pytest.approx((sum(best) - scores[3, items].sum()) / len(items))


def test_passages_count_and_one_alone_has_no_answer(make_suite, make_evaluation) -> None:
    """Halves are made of passages; a skill of a single one has no forgetting that means anything."""

    def of(passages: int):
        rows = lineage(np.random.default_rng(8), make_suite, make_evaluation, cluster=[str(index % passages) for index in range(ITEMS)])
        return audit_forgetting(rows, base_skills=()).transfer.forgetting

    assert of(1) is None
    assert of(12).high - of(12).low > 0.0
    assert {of(12).n, of(2).n} == {ITEMS}


def test_it_is_bwt_turned_round_where_only_one_row_came_before(make_suite, make_evaluation) -> None:
    rows = lineage(np.random.default_rng(8), make_suite, make_evaluation)
    transfer = audit_forgetting([rows[0], rows[1], rows[-1]], base_skills=()).transfer
    assert transfer.forgetting.value == -transfer.bwt.value == transfer.forgetting_as_published
