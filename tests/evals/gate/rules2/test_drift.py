"""Drift under rules 2: the change is that of all bits over all bytes, and few texts decide nothing."""

from __future__ import annotations

import numpy as np
import pytest

from evals.gate.pairing import pair_suite
from evals.gate.rules2.drift import drift, relative_drift
from evals.gate.rules2.policy import GatePolicy


def test_the_change_is_weighted_by_bytes_and_positive_where_text_became_easier(make_suite) -> None:
    weight = [100.0, 300.0, 50.0]
    before, after = np.array([1.0, 1.2, 0.9]), np.array([1.1, 1.1, 0.9])
    difference = relative_drift(
        make_suite("text", after, category="drift", weight=weight), make_suite("text", before, category="drift", weight=weight)
    )
    expected = (weight @ after) / (weight @ before) - 1
    assert difference.mean == pytest.approx(-expected)
    assert difference.n == 3


@pytest.mark.parametrize(("scale", "n", "outcome"), [(1.0, 60, "pass"), (1.02, 60, "block"), (1.02, 20, "inconclusive")])
def test_the_limit_and_the_least_number_of_texts(make_suite, scale: float, n: int, outcome: str) -> None:
    texts, policy = np.linspace(0.8, 1.2, n), GatePolicy()
    noise = np.linspace(-1, 1, n) * 1e-3
    pair = pair_suite(make_suite("text", texts * scale + noise, category="drift"), make_suite("text", texts, category="drift"), "r")
    assert drift(pair, policy.drift_limit, policy.level(1), policy, "champion").outcome == outcome
