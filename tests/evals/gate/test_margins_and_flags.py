"""A suite's own margin is what the gate asks of it; what is beyond noise and below every limit is flagged; intervals end at what can be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from data_contracts.manifests import CheckOutcome, Decision, Verdict, manifest_text, write_manifest
from evals.gate.decide import GateEvidence, GatePolicy, decide, items_wanted
from evals.gate.replay import replay


def asked(**fields: object) -> GatePolicy:
    """The default policy for evidence that leaves categories out on purpose."""
    return GatePolicy.model_validate({"accept_unmeasured": ("general", "safety", "drift"), **fields})


def _checks(verdict: Verdict, check: str, subject: str) -> list[CheckOutcome]:
    return [each for each in verdict.checks if each.check == check and each.subject == subject]


# ------------------------------------------------------------------------------------------------ margins


def test_a_wide_margin_lets_pass_what_the_policy_blocks(evidence) -> None:
    assert decide(evidence(old=(24, 2)), asked()).lost == ("old",)
    verdict = decide(evidence(old=(24, 2), margins={"old": 0.1}), asked())
    assert verdict.decision is Decision.PASS
    [own] = _checks(verdict, "margin", "old")
    assert (own.outcome, own.margin) == ("pass", 0.1)
    [loss] = _checks(verdict, "regression", "old")
    assert "within its own margin of 10.0 points" in loss.sentence
    assert verdict.reasons[0] == "Pass: old lost something within its own margin; nothing else was lost on 3 suites and new was learned."
    assert own.sentence in verdict.reasons, "a release owner sees that the suite was held to something else"


@pytest.mark.parametrize(("lost", "decision"), [(36, Decision.INCONCLUSIVE), (48, Decision.BLOCK)])
def test_a_wide_margin_is_a_limit_too(evidence, lost: int, decision: Decision) -> None:
    verdict = decide(evidence(old=(lost, 0), margins={"old": 0.1}), asked())
    assert verdict.decision is decision
    assert (verdict.lost == ("old",)) is (decision is Decision.BLOCK)


def test_a_narrow_margin_holds_what_the_policy_promotes(evidence) -> None:
    assert decide(evidence(old=(4, 2), older=(1, 1)), asked()).decision is Decision.PASS
    held = evidence(old=(4, 2), older=(1, 1), margins={"old": 0.01})
    verdict = decide(held, asked())
    assert verdict.decision is Decision.INCONCLUSIVE
    [own] = _checks(verdict, "margin", "old")
    assert own.items_needed is not None
    wanted = items_wanted(verdict, held.candidate)
    assert set(wanted) == {"old"}
    assert 1.4 < wanted["old"] / own.items_needed < 1.8, "a second look is the last before a person, so it gets items for a chance of 95 %"


def test_leniency_is_not_lent_to_other_suites(evidence) -> None:
    """`older` is asked for two points alone, and not for the mean of two and ten."""
    verdict = decide(evidence(old=(0, 0), older=(10, 4), margins={"old": 0.1}), asked())
    [skills] = _checks(verdict, "non_inferiority", "earlier skills")
    assert (skills.outcome, skills.n, skills.margin) == ("inconclusive", 400, 0.02)


def test_a_category_of_own_margins_only_is_asked_suite_by_suite(evidence) -> None:
    verdict = decide(evidence(margins={"old": 0.05, "older": 0.05}), asked())
    assert verdict.decision is Decision.PASS
    assert not _checks(verdict, "non_inferiority", "earlier skills")
    assert [_checks(verdict, "margin", name)[0].outcome for name in ("old", "older")] == ["pass", "pass"]


def test_a_floor_that_is_named_for_a_suite_stands_beside_its_margin(evidence) -> None:
    policy = asked(floors={"old": 0.05})
    assert decide(evidence(old=(22, 0), margins={"old": 0.1}), policy).lost == ("old",)
    assert policy.floor_of("other", 0.1) == 0.1
    assert policy.floor_of("other", 0.01) == policy.floor, "a narrow margin does not make noise a block"


def test_the_margin_of_the_new_skill_counts_from_the_next_round_on(evidence) -> None:
    plain = evidence()
    suites = {**plain.candidate.suites}
    suites["new"] = replace(suites["new"], result=suites["new"].result.model_copy(update={"margin": 0.001}))
    assert decide(replace(plain, candidate=replace(plain.candidate, suites=suites)), asked()).decision is Decision.PASS


def test_over_all_rounds_a_suite_may_lose_its_margin_once(evidence) -> None:
    lost_before = evidence(old=(3, 3), since={"old": 18}, margins={"old": 0.1})
    assert decide(lost_before, asked()).decision is Decision.PASS
    spent = decide(evidence(old=(3, 3), since={"old": 60}, margins={"old": 0.1}), asked())
    assert spent.lost == ("old",)
    assert {check.margin for check in _checks(spent, "anchor", "old")} == {0.1}


def test_a_drift_suites_margin_is_its_limit(evidence) -> None:
    assert decide(evidence(drift=1.02), asked()).lost == ("text",)
    assert decide(evidence(drift=1.02, margins={"text": 0.05}), asked()).decision is Decision.PASS
    assert decide(evidence(drift=1.005, margins={"text": 0.002}), asked()).lost == ("text",)


def test_a_suite_of_few_items_cannot_keep_its_own_margin(make_suite, make_evaluation) -> None:
    score = np.tile([1.0, 1.0, 0.0], 8)
    champion = make_evaluation("champion", make_suite("tiny", score), make_suite("real", np.ones(400)))
    candidate = make_evaluation("candidate", make_suite("tiny", score, margin=0.1), make_suite("real", np.ones(400)))
    verdict = decide(GateEvidence(candidate, champion, dict.fromkeys(("tiny", "real"), champion), None), asked())
    assert verdict.decision is Decision.INCONCLUSIVE
    assert "it has 24 items, fewer than 30" in verdict.reasons[1]


def test_a_verdict_with_own_margins_is_replayed_to_the_byte(tmp_path, evidence, store_evaluation) -> None:
    from evals.items import load_evaluation

    made = evidence(old=(24, 2), drift=1.004, margins={"old": 0.1, "text": 0.05}, since={"old": 5})
    folders = {who: store_evaluation(getattr(made, who), tmp_path / who) for who in ("candidate", "champion")}
    anchors = {name: store_evaluation(each, tmp_path / f"anchor-{name}") for name, each in made.anchors.items()}
    loaded = {who: load_evaluation(folder) for who, folder in folders.items()}
    verdict = decide(replace(made, **loaded, anchors={name: load_evaluation(folder) for name, folder in anchors.items()}), asked())
    stored = write_manifest(tmp_path / "verdict", verdict).read_text()
    assert '"check":"margin"' in stored
    assert manifest_text(replay(tmp_path / "verdict", folders | {f"anchor:{name}": folder for name, folder in anchors.items()})) == stored


# ------------------------------------------------------------------------------------------------ flags


def test_a_small_rise_that_is_real_is_flagged_on_a_pass(evidence) -> None:
    verdict = decide(evidence(drift=1.005), asked())
    assert verdict.decision is Decision.PASS
    [warning] = _checks(verdict, "drift_warning", "text")
    assert (warning.outcome, warning.margin) == ("n/a", 0.01)
    assert "bits per byte on text rose by 0.5 %" in warning.sentence
    assert verdict.reasons[-1].startswith(
        "Flagged: general text became harder to predict, beyond noise and below the limit (text by 0.5 %)."
    )


@pytest.mark.parametrize("drift", [1.0, 0.99, 1.05])
def test_no_flag_where_nothing_rose_or_where_the_rise_blocks(evidence, drift: float) -> None:
    verdict = decide(evidence(drift=drift), asked())
    assert not _checks(verdict, "drift_warning", "text")
    assert not any(reason.startswith("Flagged") for reason in verdict.reasons)


def test_right_answers_that_became_less_likely_are_flagged_by_name(make_suite, make_evaluation) -> None:
    likely, right = np.random.default_rng(0).normal(-1, 0.5, 400), np.r_[np.ones(300), np.zeros(100)]
    champion = make_evaluation("champion", make_suite("old", right, logprob=likely))
    candidate = make_evaluation("candidate", make_suite("old", right, logprob=likely - 0.05 - 0.1 * np.random.default_rng(1).random(400)))
    verdict = decide(GateEvidence(candidate, champion, {"old": champion}, None), asked())
    assert verdict.decision is Decision.PASS
    assert verdict.reasons[-1].startswith("Flagged: right answers became less likely on old, beyond noise.")


def test_what_blocks_is_not_flagged_besides(make_suite, make_evaluation, flip) -> None:
    right, likely = np.r_[np.ones(300), np.zeros(100)], np.full(400, -1.0)
    champion = make_evaluation("champion", make_suite("lost", right, logprob=likely), make_suite("kept", right, logprob=likely))
    worse = likely - 0.1 - 0.1 * np.random.default_rng(1).random(400)
    candidate = make_evaluation(
        "candidate", make_suite("lost", flip(right, lost=60), logprob=worse), make_suite("kept", right, logprob=worse)
    )
    verdict = decide(GateEvidence(candidate, champion, dict.fromkeys(("lost", "kept"), champion), None), asked())
    assert verdict.lost == ("lost",)
    assert "less likely on kept, beyond noise" in verdict.reasons[-1]


# ------------------------------------------------------------------------------------------------ intervals


def test_no_interval_goes_beyond_what_a_score_can_lose_or_win(make_suite, make_evaluation) -> None:
    """Every item of two suites changed: the plain t interval would reach past 100 points."""
    none, every = np.zeros(40), np.ones(40)
    champion = make_evaluation("champion", make_suite("old", every), make_suite("new", none))
    candidate = make_evaluation("candidate", make_suite("old", none), make_suite("new", every))
    verdict = decide(GateEvidence(candidate, champion, {"old": champion}, "new"), asked())
    assert verdict.lost == ("old",)
    ends = [(check.low, check.effect, check.high) for check in verdict.checks if check.low is not None and check.high is not None]
    assert len(ends) >= 3
    assert all(-1.0 <= low <= effect <= high <= 1.0 for low, effect, high in ends)
    assert "interval −100.0 to" in " ".join(verdict.reasons)


def test_a_text_may_become_more_than_twice_as_dear(evidence) -> None:
    [check] = _checks(decide(evidence(drift=3.0), asked()), "drift", "text")
    assert check.low is not None
    assert check.low < -1.0
