"""Evidence that cannot be compared, or that hides what an earlier champion was held to, is an error with its reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from data_contracts.digests import text_digest
from data_contracts.manifests import Decision
from evals.gate.decide import GateEvidence, decide
from evals.items import Evaluation

RIGHT = np.r_[np.ones(300), np.zeros(100)]


def _with(evaluation: Evaluation, name: str, **changes: object) -> Evaluation:
    suites = dict(evaluation.suites)
    suites[name] = replace(suites[name], **changes)
    return replace(evaluation, suites=suites)


def _spoil(evidence: GateEvidence, who: str, name: str, **changes: object) -> GateEvidence:
    return replace(evidence, **{who: _with(getattr(evidence, who), name, **changes)})


def _drop(evidence: GateEvidence, who: str, name: str) -> GateEvidence:
    evaluation: Evaluation = getattr(evidence, who)
    return replace(evidence, **{who: replace(evaluation, suites={k: v for k, v in evaluation.suites.items() if k != name})})


def _nan_at_3(score: np.ndarray) -> np.ndarray:
    spoiled = score.copy()
    spoiled[3] = np.nan
    return spoiled


SPOILED: dict[str, tuple[Callable[[GateEvidence], GateEvidence], str]] = {
    "suite missing on the candidate": (lambda e: _drop(e, "candidate", "old"), "The candidate was not evaluated on old"),
    "suite missing on the champion": (lambda e: _drop(e, "champion", "old"), "The champion was not evaluated on old"),
    "new skill not evaluated": (lambda e: _drop(e, "candidate", "new"), "the skill that this round adds"),
    "no anchor": (lambda e: replace(e, anchors={}), "old has no anchor evaluation"),
    "NaN score": (lambda e: _spoil(e, "candidate", "old", score=_nan_at_3(RIGHT)), "1 of 400 scores are not finite"),
    "NaN score of the champion": (lambda e: _spoil(e, "champion", "old", score=_nan_at_3(RIGHT)), "1 of 400 scores are not finite"),
    "infinite score": (lambda e: _spoil(e, "candidate", "piqa", score=np.full(400, np.inf)), "400 of 400 scores are not finite"),
    "score above one": (lambda e: _spoil(e, "candidate", "old", score=RIGHT * 100), "outside 0 to 1"),
    "infinite log-probability": (
        lambda e: _spoil(e, "candidate", "old", gold_logprob=np.full(400, -np.inf)),
        "log-probabilities are infinite",
    ),
    "log-probabilities gone": (
        lambda e: _spoil(e, "champion", "old", gold_logprob=np.full(400, -1.0)),
        "400 log-probabilities of the candidate",
    ),
    "duplicate items": (lambda e: _spoil(e, "candidate", "old", doc_hash=("same",) * 400), "399 items appear twice"),
    "other items": (lambda e: _spoil(e, "candidate", "old", doc_hash=tuple(map(str, range(400)))), "400 items that the champion never saw"),
    "other prompts": (lambda e: _spoil(e, "candidate", "old", prompt_hash=tuple(map(str, range(400)))), "had another prompt"),
    "drift without bytes": (lambda e: _spoil(e, "candidate", "text", weight=np.zeros(60)), "no bytes to weigh"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_evidence_that_cannot_be_compared_is_an_error(evidence, case: str, asked) -> None:
    spoil, words = SPOILED[case]
    verdict = decide(spoil(evidence()), asked())
    assert verdict.decision is Decision.ERROR
    assert words in " ".join(verdict.reasons)
    assert {check.check for check in verdict.checks} == {"validity"}


def test_changed_suite_digest_is_an_error(evidence, make_suite, make_evaluation, asked) -> None:
    plain = evidence()
    changed = make_suite("old", RIGHT, suite_sha256="0" * 64)
    verdict = decide(replace(plain, champion=replace(plain.champion, suites={**plain.champion.suites, "old": changed})), asked())
    assert verdict.decision is Decision.ERROR
    assert "old has changed since the champion was evaluated" in " ".join(verdict.reasons)


def test_other_settings_are_an_error_that_says_which(evidence, make_evaluation, asked) -> None:
    plain = evidence()
    other = make_evaluation("champion", *plain.champion.suites.values(), settings={"backend": "vllm", "dtype": "float32"})
    verdict = decide(replace(plain, champion=other), asked())
    assert verdict.decision is Decision.ERROR
    assert "backend: 'vllm', now 'hf'" in " ".join(verdict.reasons)


def test_an_empty_suite_is_an_error(make_suite, make_evaluation, asked) -> None:
    empty = make_evaluation("m", make_suite("old", []))
    verdict = decide(GateEvidence(empty, empty, {"old": empty}, None), asked())
    assert verdict.decision is Decision.ERROR
    assert "no items" in " ".join(verdict.reasons)


def test_required_suites(evidence, asked) -> None:
    verdict = decide(evidence(), asked(required_suites=("ifeval",)))
    assert verdict.decision is Decision.ERROR
    assert "ifeval, which the policy requires" in " ".join(verdict.reasons)


def _without(evaluation: Evaluation, name: str) -> Evaluation:
    return replace(evaluation, suites={key: items for key, items in evaluation.suites.items() if key != name})


def _cut(made: GateEvidence, keep: int) -> GateEvidence:
    """`old` cut to its last items, on the candidate, the champion and the anchor alike."""

    def short(evaluation: Evaluation) -> Evaluation:
        items = evaluation.suites["old"]
        rows = slice(len(items.doc_hash) - keep, None)
        fields = ("doc_hash", "prompt_hash", "score", "gold_logprob", "weight", "cluster", "prompt", "gold", "prediction")
        result = items.result.model_copy(update={"n": keep})
        less = replace(items, result=result, **{name: getattr(items, name)[rows] for name in fields})
        return replace(evaluation, suites={**evaluation.suites, "old": less})

    return replace(
        made,
        candidate=short(made.candidate),
        champion=short(made.champion),
        anchors={name: short(each) for name, each in made.anchors.items()},
    )


def _sealed(made: GateEvidence) -> GateEvidence:
    def seal(evaluation: Evaluation) -> Evaluation:
        items = evaluation.suites["old"]
        hidden = replace(items, result=items.result.model_copy(update={"sealed": True}))
        return replace(evaluation, suites={**evaluation.suites, "old": hidden})

    return replace(made, candidate=seal(made.candidate), champion=seal(made.champion))


def _removed(made: GateEvidence) -> GateEvidence:
    return replace(made, candidate=_without(made.candidate, "old"), champion=_without(made.champion, "old"))


@pytest.mark.parametrize(
    ("hide", "words"),
    [
        (lambda made: _cut(made, 20), "old, which an earlier champion was registered with, lacks 380 of its 400 items now"),
        (_sealed, "old, which an earlier champion was registered with, is sealed now"),
        (_removed, "old, which an earlier champion was registered with, is no longer measured"),
    ],
)
def test_a_loss_is_not_hidden_by_asking_less(evidence, hide, words: str, asked) -> None:
    lost = evidence(old=(60, 0))
    lost = replace(lost, registered=dict.fromkeys(("old", "older", "piqa"), lost.champion))
    assert decide(lost, asked()).lost == ("old",)
    verdict = decide(hide(lost), asked())
    assert verdict.decision is Decision.ERROR
    assert words in " ".join(verdict.reasons)
    assert "gate.retired_suites" in " ".join(verdict.reasons)


def test_more_items_than_registered_are_welcome(evidence, asked) -> None:
    made = evidence()
    registered = _cut(made, 100).champion
    assert decide(replace(made, registered={"old": registered}), asked()).decision is Decision.PASS


@pytest.mark.parametrize(("scorer", "decision"), [({}, Decision.PASS), ({"scorer": "0123456789abcdef"}, Decision.ERROR)])
def test_a_report_from_before_todays_item_digests_is_compared_by_what_was_asked(evidence, scorer, decision: Decision, asked) -> None:
    """The release before named the same items by another digest; its reports do not name a scorer."""
    made = evidence()
    old = made.champion.suites["old"]
    other = replace(old, doc_hash=tuple(text_digest(f"the release before: {name}") for name in old.doc_hash))
    report = made.champion.report.model_copy(update={"settings": made.champion.report.settings | scorer})
    registered = replace(made.champion, report=report, suites={**made.champion.suites, "old": other})
    verdict = decide(replace(made, registered={"old": registered}), asked())
    assert verdict.decision is decision
    if not scorer:
        cut = decide(_cut(replace(made, registered={"old": registered}), 20), asked())
        assert "lacks 380 of its 400 items now" in " ".join(cut.reasons)
