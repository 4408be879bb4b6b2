"""No evidence is not evidence: what is not asked, too small, cut, sealed, useless or doubted never passes by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from data_contracts.manifests import Decision
from evals.gate.decide import GateEvidence, GatePolicy, decide
from evals.items import Evaluation

UNLEARNED = np.r_[np.ones(100), np.zeros(300)]


def _without(evaluation: Evaluation, name: str) -> Evaluation:
    return replace(evaluation, suites={key: items for key, items in evaluation.suites.items() if key != name})


# ------------------------------------------------------------------------------------------------ unmeasured


def test_what_nobody_asked_is_held_and_named(evidence) -> None:
    verdict = decide(evidence(), GatePolicy())
    assert verdict.decision is Decision.INCONCLUSIVE
    assert verdict.reasons[0] == "Inconclusive: safety suites were not measured."


def test_a_first_round_without_any_suite_is_held(make_suite, make_evaluation, flip, asked) -> None:
    base = make_evaluation("base", make_suite("new", UNLEARNED))
    candidate = make_evaluation("m1", make_suite("new", flip(UNLEARNED, won=300)))
    first = GateEvidence(candidate, base, {}, "new", bootstrap=True)
    verdict = decide(first, GatePolicy())
    assert verdict.decision is Decision.INCONCLUSIVE
    assert [check.subject for check in verdict.checks if check.outcome == "inconclusive"] == [
        "general suites",
        "safety suites",
        "drift suites",
    ]
    accepted = decide(first, asked())
    assert accepted.decision is Decision.PASS
    assert accepted.reasons[0] == "Pass: new was learned."


def test_accepting_one_category_accepts_no_other(evidence) -> None:
    bare = replace(evidence(), candidate=_without(evidence().candidate, "piqa"), champion=_without(evidence().champion, "piqa"))
    verdict = decide(bare, GatePolicy(accept_unmeasured=("safety",)))
    assert verdict.reasons[0] == "Inconclusive: general suites were not measured."


# ------------------------------------------------------------------------------------------------ small suites


# ------------------------------------------------------------------------------------------------ what champions were registered with


# ------------------------------------------------------------------------------------------------ use


# ------------------------------------------------------------------------------------------------ doubt


def _doubted(evaluation: Evaluation, name: str, phrase: str) -> Evaluation:
    items = evaluation.suites[name]
    return replace(evaluation, suites={**evaluation.suites, name: replace(items, result=items.result.model_copy(update={"doubt": phrase}))})


def test_what_may_be_measured_wrongly_is_never_a_plain_block(evidence, asked) -> None:
    phrase = "28 of 30 training rows are reproduced word for word, and the suite scores 25.0"
    made = evidence(gain=0)
    assert decide(made, asked()).decision is Decision.BLOCK
    verdict = decide(replace(made, candidate=_doubted(made.candidate, "new", phrase)), asked())
    assert verdict.decision is Decision.INCONCLUSIVE
    assert verdict.reasons[0] == "Inconclusive: new may be measured wrongly."
    assert verdict.reasons[1] == f"new may be measured wrongly: {phrase}."


def test_a_doubt_does_not_excuse_a_loss_elsewhere(evidence, asked) -> None:
    made = evidence(gain=0, old=(60, 0))
    verdict = decide(replace(made, candidate=_doubted(made.candidate, "new", "it is odd")), asked())
    assert (verdict.decision, verdict.lost) == (Decision.BLOCK, ("old",))


# ------------------------------------------------------------------------------------------------ intervals and contradictions
