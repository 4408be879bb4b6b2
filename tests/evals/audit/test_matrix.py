"""One suite over all rounds: items are paired by document, and what cannot be compared is a gap with a sentence."""

from __future__ import annotations

import numpy as np

from evals.audit.forgetting import RoundEvaluation, audit_forgetting


def test_items_are_paired_by_document_not_by_place(make_suite, make_evaluation, share) -> None:
    from dataclasses import replace

    suite = make_suite("a", share(0.6))
    order = np.random.default_rng(0).permutation(100)
    shuffled = replace(
        suite,
        doc_hash=tuple(suite.doc_hash[i] for i in order),
        prompt_hash=tuple(suite.prompt_hash[i] for i in order),
        score=suite.score[order],
        gold_logprob=suite.gold_logprob[order],
        prediction=tuple(suite.prediction[i] for i in order),
    )
    audit = audit_forgetting(
        [RoundEvaluation(0, None, make_evaluation("m0", suite)), RoundEvaluation(1, None, make_evaluation("m1", shuffled))]
    )
    assert audit.churn[0].kept == 60
    assert audit.churn_items == ()
    change = audit.skills[0].change
    assert change.value == 0.0
    assert 0.0 < change.high == -change.low < 0.05, "no item changed, which is no certainty"


def test_a_changed_suite_is_a_gap_not_a_difference(make_suite, make_evaluation, share) -> None:
    old = make_evaluation("m0", make_suite("a", share(0.9), suite_sha256="1" * 64))
    new = make_evaluation("m1", make_suite("a", share(0.5), suite_sha256="2" * 64))
    audit = audit_forgetting([RoundEvaluation(0, None, old), RoundEvaluation(1, None, new)])
    assert audit.matrix == ((None,), (0.5,))
    assert "a changed after round 0" in audit.gaps[0]
    assert audit.transfer.bwt is None


def test_the_same_items_under_other_prompts_are_a_gap(make_suite, make_evaluation, share) -> None:
    """As after a change of worked examples: the documents are the same, and what the model read is not."""
    from dataclasses import replace

    new = make_suite("a", share(0.5))
    old = replace(new, prompt_hash=(*new.prompt_hash[:97], "x" * 64, "y" * 64, "z" * 64), score=share(0.9))
    audit = audit_forgetting([RoundEvaluation(0, None, make_evaluation("m0", old)), RoundEvaluation(1, None, make_evaluation("m1", new))])
    assert audit.matrix == ((None,), (0.5,))
    assert audit.gaps[0] == "a: 3 items had another prompt after round 0, so that round's score is not comparable and not shown."
    assert audit.transfer.bwt is None


def test_other_settings_are_said(make_suite, make_evaluation, share) -> None:
    rows = [
        RoundEvaluation(0, None, make_evaluation("m0", make_suite("a", share(0.9)), settings={"dtype": "bfloat16"})),
        RoundEvaluation(1, None, make_evaluation("m1", make_suite("a", share(0.9)))),
    ]
    assert "other settings" in audit_forgetting(rows).gaps[0]


def test_nan_scores_are_a_gap(make_suite, make_evaluation, share) -> None:
    spoiled = make_evaluation("m0", make_suite("a", np.full(10, np.nan)))
    audit = audit_forgetting(
        [RoundEvaluation(0, None, spoiled), RoundEvaluation(1, None, make_evaluation("m1", make_suite("a", share(0.5, 10))))]
    )
    assert audit.matrix == ((None,), (0.5,))
    assert "not finite" in audit.gaps[0]


def test_drift_is_weighted_by_bytes(make_suite, make_evaluation) -> None:
    text = make_suite("text", [1.0, 2.0], category="drift", weight=[300, 100])
    assert audit_forgetting([RoundEvaluation(0, None, make_evaluation("m0", text))]).matrix == ((1.25,),)
