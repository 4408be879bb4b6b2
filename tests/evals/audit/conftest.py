"""A lineage of three rounds whose accuracy matrix is known."""

from __future__ import annotations

import numpy as np
import pytest

from data_contracts.manifests import Decision
from evals.audit.forgetting import RoundEvaluation


def _share(right: float, n: int = 100) -> np.ndarray:
    score = np.zeros(n)
    score[: round(right * n)] = 1
    return score


@pytest.fixture
def hand_made(make_suite, make_evaluation):
    """Three rounds whose matrix is known: rows base, a, b, c; columns a, b, c."""
    matrix = np.array([[0.20, 0.30, 0.40], [0.90, 0.35, 0.38], [0.95, 0.80, 0.42], [0.85, 0.70, 0.90]])
    rows = []
    for number, (skill, scores) in enumerate(zip((None, "a", "b", "c"), matrix, strict=True)):
        suites = [make_suite(name, _share(score)) for name, score in zip("abc", scores, strict=True)]
        suites.append(make_suite("piqa", _share(0.7 - 0.01 * number), category="general"))
        rows.append(RoundEvaluation(number, skill, make_evaluation(f"m{number}", *suites), Decision.PASS if number else None))
    return rows


@pytest.fixture(scope="session")
def share():
    """Scores of n items of which this share is right, those first."""
    return _share
