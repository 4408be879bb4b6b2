"""Bits per byte against the limit, and early warnings that decide nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from data_contracts.manifests import Decision
from evals.gate.decide import GateEvidence, decide


def test_a_drift_suites_margin_is_its_limit(evidence, asked) -> None:
    assert decide(evidence(drift=1.02), asked()).lost == ("text",)
    assert decide(evidence(drift=1.02, margins={"text": 0.05}), asked()).decision is Decision.PASS
    assert decide(evidence(drift=1.005, margins={"text": 0.002}), asked()).lost == ("text",)


def test_a_small_rise_that_is_real_is_flagged_on_a_pass(evidence, asked, checks_of) -> None:
    verdict = decide(evidence(drift=1.005), asked())
    assert verdict.decision is Decision.PASS
    [warning] = checks_of(verdict, "drift_warning", "text")
    assert (warning.outcome, warning.margin) == ("n/a", 0.01)
    assert "bits per byte on text rose by 0.5 %" in warning.sentence
    assert verdict.reasons[-1].startswith(
        "Flagged: general text became harder to predict, beyond noise and below the limit (text by 0.5 %)."
    )


@pytest.mark.parametrize("drift", [1.0, 0.99, 1.05])
def test_no_flag_where_nothing_rose_or_where_the_rise_blocks(evidence, drift: float, asked, checks_of) -> None:
    verdict = decide(evidence(drift=drift), asked())
    assert not checks_of(verdict, "drift_warning", "text")
    assert not any(reason.startswith("Flagged") for reason in verdict.reasons)


def test_right_answers_that_became_less_likely_are_flagged_by_name(make_suite, make_evaluation, asked) -> None:
    likely, right = np.random.default_rng(0).normal(-1, 0.5, 400), np.r_[np.ones(300), np.zeros(100)]
    champion = make_evaluation("champion", make_suite("old", right, logprob=likely))
    candidate = make_evaluation("candidate", make_suite("old", right, logprob=likely - 0.05 - 0.1 * np.random.default_rng(1).random(400)))
    verdict = decide(GateEvidence(candidate, champion, {"old": champion}, None), asked())
    assert verdict.decision is Decision.PASS
    assert verdict.reasons[-1].startswith("Flagged: right answers became less likely on old, beyond noise.")


def test_what_blocks_is_not_flagged_besides(make_suite, make_evaluation, flip, asked) -> None:
    right, likely = np.r_[np.ones(300), np.zeros(100)], np.full(400, -1.0)
    champion = make_evaluation("champion", make_suite("lost", right, logprob=likely), make_suite("kept", right, logprob=likely))
    worse = likely - 0.1 - 0.1 * np.random.default_rng(1).random(400)
    candidate = make_evaluation(
        "candidate", make_suite("lost", flip(right, lost=60), logprob=worse), make_suite("kept", right, logprob=worse)
    )
    verdict = decide(GateEvidence(candidate, champion, dict.fromkeys(("lost", "kept"), champion), None), asked())
    assert verdict.lost == ("lost",)
    assert "less likely on kept, beyond noise" in verdict.reasons[-1]


def test_a_text_may_become_more_than_twice_as_dear(evidence, asked, checks_of) -> None:
    [check] = checks_of(decide(evidence(drift=3.0), asked()), "drift", "text")
    assert check.low is not None
    assert check.low < -1.0


RIGHT = np.r_[np.ones(300), np.zeros(100)]


@pytest.mark.parametrize(("drift", "outcome"), [(1.0, "pass"), (1.005, "pass"), (1.02, "block")])
def test_drift_in_bits_per_byte(evidence, drift: float, outcome: str, asked, checks_of) -> None:
    [check] = checks_of(decide(evidence(drift=drift), asked()), "drift", "text")
    assert check.outcome == outcome
    assert check.effect == pytest.approx(1 - drift, abs=2e-4)


def test_improved_text_is_not_drift(evidence, asked) -> None:
    assert decide(evidence(drift=0.9), asked()).decision is Decision.PASS


def test_drift_is_counted_over_all_rounds_too(evidence, asked, checks_of) -> None:
    """A rise of 0.5 % passes against the champion; against a base that was 4 % better it does not."""
    made = evidence(drift=1.005)
    text = made.champion.suites["text"]
    better = replace(text, score=text.score * 0.96)
    base = replace(made.anchors["old"], suites={**made.anchors["old"].suites, "text": better})
    verdict = decide(replace(made, anchors={**made.anchors, "text": base}), asked())
    assert checks_of(verdict, "drift", "text")[0].outcome == "pass"
    assert checks_of(verdict, "anchor_drift", "text")[0].outcome == "block"
    assert verdict.lost == ("text",)


def test_falling_log_probabilities_warn_and_do_not_decide(make_suite, make_evaluation, asked, checks_of) -> None:
    likely = np.random.default_rng(0).normal(-1, 0.5, 400)
    champion = make_evaluation("champion", make_suite("old", RIGHT, logprob=likely))
    candidate = make_evaluation("candidate", make_suite("old", RIGHT, logprob=likely - 0.05 - 0.1 * np.random.default_rng(1).random(400)))
    verdict = decide(GateEvidence(candidate, champion, {"old": champion}, None), asked())
    assert verdict.decision is Decision.PASS
    [warning] = checks_of(verdict, "early_warning", "old")
    assert "less likely" in warning.sentence
