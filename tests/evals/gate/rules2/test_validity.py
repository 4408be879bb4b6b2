"""What rules 2 did not compare: each fault by itself, in the words of stored verdicts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evals.gate.rules2.validity import comparison_faults, find_faults, gate_suites, item_faults


def test_complete_evidence_has_no_fault(evidence) -> None:
    made = evidence()
    assert find_faults(made.candidate, made.champion, made.anchors, "new", ()) == []
    assert [words for _, words in find_faults(made.candidate, made.champion, {}, "new", ("ifeval",))] == [
        "the candidate was not evaluated on ifeval, which the policy requires",
        *(f"{name} has no anchor evaluation, so its cumulative loss cannot be counted" for name in ("old", "older", "piqa")),
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"score": np.array([1.0, np.nan])}, "1 of 2 scores are not finite numbers"),
        ({"score": np.array([1.0, 2.0])}, "scores lie outside 0 to 1"),
        ({"doc_hash": ("a", "a")}, "1 items appear twice"),
        ({"gold_logprob": np.array([-np.inf, -1.0])}, "some log-probabilities are infinite"),
    ],
)
def test_faults_of_one_suite(make_suite, changes: dict[str, object], words: str) -> None:
    assert list(item_faults(replace(make_suite("a", [1.0, 0.0]), **changes))) == [words]


def test_faults_of_a_pair_and_sealed_splits(make_suite, make_evaluation) -> None:
    mine, theirs = make_suite("a", [1.0, 0.0]), make_suite("a", [1.0, 0.0], suite_sha256="0" * 64)
    [fault] = comparison_faults(mine, theirs, "the champion")
    assert fault.startswith("a has changed since the champion was evaluated (suite digest 000000000000, now ")
    sealed = make_suite("b", [1.0], sealed=True)
    assert list(gate_suites(make_evaluation("m", sealed, mine))) == ["a"]
