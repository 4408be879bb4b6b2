"""Intervals say their level and end at what can happen."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from evals.gate.decide import GateEvidence, decide


@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_every_interval_says_its_own_level(evidence, attempts: int, asked, checks_of) -> None:
    """The level is found again from the interval itself: t quantiles of the stored ends (plain scipy)."""
    verdict = decide(evidence(attempts=attempts, old=(8, 4)), asked())
    seen = set()
    for check in verdict.checks:
        if check.check in ("regression", "gain", "non_inferiority") and check.effect is not None and check.outcome != "n/a":
            level = {1: 0.05, 2: 0.005, 3: 0.05 / 30}[attempts] if check.check != "regression" else 0.05
            assert check.confidence == pytest.approx(1 - 2 * level)
            assert f"{100 * (1 - 2 * level):.3g} % interval" in check.sentence
            seen.add(check.check)
    assert seen == {"regression", "gain", "non_inferiority"}
    [old] = checks_of(verdict, "regression", "old")
    assert old.low is not None
    assert old.high is not None
    d = np.r_[-np.ones(8), np.ones(4), np.zeros(388)]
    spread = np.sqrt((400 * d.var(ddof=1) + 1) / 402 / 400)
    assert (old.high - old.low) / 2 == pytest.approx(stats.t.isf(0.05, 399) * spread, rel=1e-6)


def test_no_interval_goes_beyond_what_a_score_can_lose_or_win(make_suite, make_evaluation, asked) -> None:
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
