"""No evidence is not evidence: what is not asked, too small, cut, sealed, useless or doubted never passes by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from data_contracts.digests import text_digest
from data_contracts.manifests import CheckOutcome, Decision, Verdict
from evals.gate.decide import GateEvidence, GatePolicy, decide
from evals.items import Evaluation

RIGHT = np.r_[np.ones(300), np.zeros(100)]
UNLEARNED = np.r_[np.ones(100), np.zeros(300)]


def asked(**fields: object) -> GatePolicy:
    """The default policy for evidence that leaves categories out on purpose."""
    return GatePolicy.model_validate({"accept_unmeasured": ("general", "safety", "drift"), **fields})


def _checks(verdict: Verdict, check: str, subject: str) -> list[CheckOutcome]:
    return [each for each in verdict.checks if each.check == check and each.subject == subject]


def _without(evaluation: Evaluation, name: str) -> Evaluation:
    return replace(evaluation, suites={key: items for key, items in evaluation.suites.items() if key != name})


# ------------------------------------------------------------------------------------------------ unmeasured


def test_what_nobody_asked_is_held_and_named(evidence) -> None:
    verdict = decide(evidence(), GatePolicy())
    assert verdict.decision is Decision.INCONCLUSIVE
    assert verdict.reasons[0] == "Inconclusive: safety suites were not measured."


def test_a_first_round_without_any_suite_is_held(make_suite, make_evaluation, flip) -> None:
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


def test_what_is_accepted_by_name_is_repeated_in_every_verdict(evidence) -> None:
    said = "Not measured, and accepted by gate.accept_unmeasured: safety suites."
    policy = GatePolicy(accept_unmeasured=("safety",))
    for made, decision in ((evidence(), Decision.PASS), (evidence(old=(40, 0)), Decision.BLOCK), (evidence(gain=3), Decision.INCONCLUSIVE)):
        verdict = decide(made, policy)
        assert (verdict.decision, said in verdict.reasons) == (decision, True)


def test_accepting_one_category_accepts_no_other(evidence) -> None:
    bare = replace(evidence(), candidate=_without(evidence().candidate, "piqa"), champion=_without(evidence().champion, "piqa"))
    verdict = decide(bare, GatePolicy(accept_unmeasured=("safety",)))
    assert verdict.reasons[0] == "Inconclusive: general suites were not measured."


# ------------------------------------------------------------------------------------------------ small suites


@pytest.mark.parametrize(
    ("items", "lost", "outcome"),
    [(29, 29, "block"), (12, 5, "block"), (12, 1, "inconclusive"), (12, 0, "n/a")],
)
def test_the_floor_holds_for_small_suites(make_suite, make_evaluation, flip, items: int, lost: int, outcome: str) -> None:
    score = np.ones(items)
    champion = make_evaluation("champion", make_suite("topic", score), make_suite("real", RIGHT))
    candidate = make_evaluation("candidate", make_suite("topic", flip(score, lost=lost)), make_suite("real", RIGHT))
    verdict = decide(GateEvidence(candidate, champion, dict.fromkeys(("topic", "real"), champion), None), asked())
    [check] = _checks(verdict, "regression", "topic")
    assert check.outcome == outcome
    if lost:
        assert check.p_value == pytest.approx(stats.binomtest(lost, lost, 0.5, alternative="greater").pvalue)
    assert (verdict.lost == ("topic",)) is (outcome == "block")
    assert "on 2 suites" not in verdict.reasons[0], "a suite of few items is not one on which nothing was lost"


# ------------------------------------------------------------------------------------------------ what champions were registered with


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
def test_a_loss_is_not_hidden_by_asking_less(evidence, hide, words: str) -> None:
    lost = evidence(old=(60, 0))
    lost = replace(lost, registered=dict.fromkeys(("old", "older", "piqa"), lost.champion))
    assert decide(lost, asked()).lost == ("old",)
    verdict = decide(hide(lost), asked())
    assert verdict.decision is Decision.ERROR
    assert words in " ".join(verdict.reasons)
    assert "gate.retired_suites" in " ".join(verdict.reasons)


def test_a_suite_is_retired_on_record(evidence) -> None:
    made = evidence()
    made = _removed(replace(made, registered=dict.fromkeys(("old", "older"), made.champion)))
    verdict = decide(made, asked(retired_suites={"old": "its items were published"}))
    assert verdict.decision is Decision.PASS
    assert "Retired by gate.retired_suites: old (its items were published)." in verdict.reasons
    with pytest.raises(ValueError, match="at least 3 characters"):
        GatePolicy(retired_suites={"old": " "})


def test_more_items_than_registered_are_welcome(evidence) -> None:
    made = evidence()
    registered = _cut(made, 100).champion
    assert decide(replace(made, registered={"old": registered}), asked()).decision is Decision.PASS


@pytest.mark.parametrize(("scorer", "decision"), [({}, Decision.PASS), ({"scorer": "0123456789abcdef"}, Decision.ERROR)])
def test_a_report_from_before_todays_item_digests_is_compared_by_what_was_asked(evidence, scorer, decision: Decision) -> None:
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


# ------------------------------------------------------------------------------------------------ use


def _round(make_suite, make_evaluation, before: float, after: float, *, n: int = 200, classes: int = 0, **fields: object) -> Verdict:
    """A first round whose skill goes from `before` to `after` on n items; with `classes`, as many equally common answers."""
    gold = [f"class {index % classes}" for index in range(n)] if classes else None
    scores = [np.r_[np.ones(round(share * n)), np.zeros(n - round(share * n))] for share in (before, after)]
    base, candidate = (
        make_evaluation(name, make_suite("tickets", score, gold=gold)) for name, score in zip(("base", "m1"), scores, strict=True)
    )
    return decide(GateEvidence(candidate, base, {}, "tickets", bootstrap=True), asked(**fields))


@pytest.mark.parametrize(
    ("before", "after", "classes", "decision"),
    [
        (0.0, 0.22, 0, Decision.INCONCLUSIVE),  # significant and of no use
        (0.011, 0.089, 8, Decision.INCONCLUSIVE),  # below guessing
        (0.0, 0.56, 8, Decision.INCONCLUSIVE),  # half way from 12.5 to 100 is 56.25
        (0.0, 0.57, 8, Decision.PASS),
        (0.5, 0.74, 2, Decision.INCONCLUSIVE),
        (0.5, 0.76, 2, Decision.PASS),
        (0.9, 0.93, 8, Decision.INCONCLUSIVE),  # good before, and the gain is below the least useful one
        (0.3, 0.3, 8, Decision.BLOCK),
        (0.6, 0.5, 8, Decision.BLOCK),
    ],
)
def test_significance_is_not_use(make_suite, make_evaluation, before: float, after: float, classes: int, decision: Decision) -> None:
    assert _round(make_suite, make_evaluation, before, after, classes=classes).decision is decision


def test_a_skill_may_have_a_target_of_its_own(make_suite, make_evaluation) -> None:
    poems = {"min_scores": {"tickets": 0.2}}
    assert _round(make_suite, make_evaluation, 0.0, 0.22, **poems).decision is Decision.PASS
    strict = _round(make_suite, make_evaluation, 0.0, 0.9, min_scores={"tickets": 0.95})
    assert strict.decision is Decision.INCONCLUSIVE
    assert "gate.min_scores asks for 95.0" in " ".join(strict.reasons)


def test_a_pass_says_how_good_the_skill_is_against_guessing(make_suite, make_evaluation) -> None:
    reasons = " ".join(_round(make_suite, make_evaluation, 0.1, 0.9, classes=8).reasons)
    assert "always giving the commonest answer would score 12.5, so this is 89 % of the way from guessing to all right" in reasons


def test_a_suite_with_one_answer_teaches_nobody_anything(make_suite, make_evaluation) -> None:
    verdict = _round(make_suite, make_evaluation, 0.0, 0.99, classes=1)
    assert verdict.decision is Decision.INCONCLUSIVE
    assert "every item has the same answer" in " ".join(verdict.reasons)


# ------------------------------------------------------------------------------------------------ doubt


def _doubted(evaluation: Evaluation, name: str, phrase: str) -> Evaluation:
    items = evaluation.suites[name]
    return replace(evaluation, suites={**evaluation.suites, name: replace(items, result=items.result.model_copy(update={"doubt": phrase}))})


def test_what_may_be_measured_wrongly_is_never_a_plain_block(evidence) -> None:
    phrase = "28 of 30 training rows are reproduced word for word, and the suite scores 25.0"
    made = evidence(gain=0)
    assert decide(made, asked()).decision is Decision.BLOCK
    verdict = decide(replace(made, candidate=_doubted(made.candidate, "new", phrase)), asked())
    assert verdict.decision is Decision.INCONCLUSIVE
    assert verdict.reasons[0] == "Inconclusive: new may be measured wrongly."
    assert verdict.reasons[1] == f"new may be measured wrongly: {phrase}."


def test_a_doubt_does_not_excuse_a_loss_elsewhere(evidence) -> None:
    made = evidence(gain=0, old=(60, 0))
    verdict = decide(replace(made, candidate=_doubted(made.candidate, "new", "it is odd")), asked())
    assert (verdict.decision, verdict.lost) == (Decision.BLOCK, ("old",))


# ------------------------------------------------------------------------------------------------ intervals and contradictions


@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_every_interval_says_its_own_level(evidence, attempts: int) -> None:
    """The level is found again from the interval itself: t quantiles of the stored ends (plain scipy)."""
    verdict = decide(evidence(attempts=attempts, old=(8, 4)), asked())
    seen = set()
    for check in verdict.checks:
        if check.check in ("regression", "gain", "non_inferiority") and check.effect is not None and check.outcome != "n/a":
            level = 0.05 / attempts**2 if check.check != "regression" else 0.05
            assert check.confidence == pytest.approx(1 - 2 * level)
            assert f"{100 * (1 - 2 * level):.3g} % interval" in check.sentence
            seen.add(check.check)
    assert seen == {"regression", "gain", "non_inferiority"}
    [old] = _checks(verdict, "regression", "old")
    assert old.low is not None
    assert old.high is not None
    d = np.r_[-np.ones(8), np.ones(4), np.zeros(388)]
    spread = np.sqrt((400 * d.var(ddof=1) + 1) / 402 / 400)
    assert (old.high - old.low) / 2 == pytest.approx(stats.t.isf(0.05, 399) * spread, rel=1e-6)


def test_more_items_are_not_asked_for_where_they_would_not_help(evidence) -> None:
    """A mean loss of about the margin: no number of items rules it out."""
    verdict = decide(evidence(old=(48, 40), older=(48, 40)), asked())
    assert verdict.decision is Decision.INCONCLUSIVE
    reasons = " ".join(verdict.reasons)
    assert "more items are not expected to change that" in reasons
    assert "valuate more items" not in reasons
