"""Pairing is by document, and a reference that knows nothing is recognised."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evals.gate.pairing import majority_rate, pair_suite, why_uninformative


def _classes(n: int, names: tuple[str, ...] = ("yes", "no")) -> list[str]:
    return [names[index % len(names)] for index in range(n)]


def test_order_of_the_reference_does_not_matter(make_suite, flip) -> None:
    score = np.tile([1.0, 1.0, 0.0], 20)
    reference, candidate = make_suite("a", score), make_suite("a", flip(score, lost=3, won=1))
    turned = replace(
        reference,
        doc_hash=reference.doc_hash[::-1],
        score=reference.score[::-1],
        gold_logprob=reference.gold_logprob[::-1],
    )
    straight, other = pair_suite(candidate, reference, "r"), pair_suite(candidate, turned, "r")
    assert np.array_equal(straight.d, other.d)
    assert (straight.lost, straight.won) == (3, 1)


def test_lower_is_better_turns_the_sign(make_suite) -> None:
    pair = pair_suite(make_suite("a", [0.2, 0.2], higher=False), make_suite("a", [0.3, 0.1], higher=False), "r")
    assert pair.d == pytest.approx([0.1, -0.1])


@pytest.mark.parametrize(("cluster", "exact"), [(None, True), (["p"] * 4, False)])
def test_mcnemar_only_for_independent_right_and_wrong(make_suite, cluster, exact) -> None:
    pair = pair_suite(make_suite("a", [1, 0, 1, 1], cluster=cluster), make_suite("a", [1, 1, 1, 0], cluster=cluster), "r")
    assert pair.exact is exact
    assert pair_suite(make_suite("a", [0.5, 0.25]), make_suite("a", [1, 0]), "r").exact is False


def test_no_changed_item_is_no_evidence(make_suite) -> None:
    for scores in ([1.0, 0.0] * 20, [0.3, 0.7] * 20):
        pair = pair_suite(make_suite("a", scores), make_suite("a", scores), "r")
        assert pair.p_loss() == 1.0
        assert pair.p_gain() == 1.0


def test_graded_scores_use_the_paired_t(make_suite) -> None:
    generator = np.random.default_rng(0)
    before = generator.random(100) * 0.5 + 0.3
    worse = pair_suite(make_suite("a", before - 0.1 * generator.random(100)), make_suite("a", before), "r")
    assert worse.p_loss() < 1e-6
    assert worse.p_gain() > 0.99


def test_majority_class(make_suite) -> None:
    assert majority_rate(make_suite("a", [1, 1, 1, 0], gold=["x", "x", "x", "y"])) == 0.75
    assert majority_rate(make_suite("a", [1, 1], gold=["refuse", "refuse"])) is None
    assert majority_rate(make_suite("a", [1, 1], gold=["", ""])) is None


@pytest.mark.parametrize(
    ("right", "words"),
    [(0.50, "not above its majority class"), (0.52, "not above its majority class"), (0.0, "scores 0"), (0.80, None)],
)
def test_a_reference_at_chance_cannot_show_anything(make_suite, right: float, words: str | None) -> None:
    n = 200
    score = np.zeros(n)
    score[: int(right * n)] = 1
    reference = make_suite("a", score, gold=_classes(n))
    why = why_uninformative(reference, 0.05, rules=6)
    assert (why is None) if words is None else (why is not None and words in why)


def test_a_reference_with_one_answer_cannot_show_anything(make_suite) -> None:
    gold = ["yes"] * 60 + ["no"] * 40
    reference = make_suite("a", [1.0] * 60 + [0.0] * 40, gold=gold, prediction=["yes"] * 100)
    assert "'yes' to every item" in (why_uninformative(reference, 0.05, rules=6) or "")


def test_one_right_answer_for_all_is_no_majority_class(make_suite) -> None:
    """A refusal suite has one right answer everywhere; always refusing is then knowing it."""
    assert why_uninformative(make_suite("refusal", [1.0] * 95 + [0.0] * 5, gold=["refuse"] * 100), 0.05, rules=6) is None


def test_drift_is_always_informative(make_suite) -> None:
    assert why_uninformative(make_suite("text", [1.2] * 40, category="drift"), 0.05, rules=6) is None
