"""The words of rules 2, as their stored verdicts have them: they may never change."""

from __future__ import annotations

import math

import pytest

from evals.gate.rules2.words import p_words, points, signed, size, tidy


@pytest.mark.parametrize(
    ("effect", "words"), [(0.012, "+1.2 points"), (-0.05, "−5.0 points"), (0.01, "+1.0 point"), (-0.0001, "0.0 points")]
)
def test_points(effect: float, words: str) -> None:
    assert points(effect) == words


def test_sizes_and_signs() -> None:
    assert (size(-0.05), size(0.012)) == ("5.0 points", "1.2 points")
    assert (signed(-0.021), signed(0.0)) == ("−2.1", "0.0")


@pytest.mark.parametrize(("p", "words"), [(0.00001, "p < 0.0001"), (0.0123, "p = 0.012"), (0.5, "p = 0.50")])
def test_p_values(p: float, words: str) -> None:
    assert p_words(p) == words


def test_numbers_are_kept_to_ten_digits_and_only_finite_ones() -> None:
    assert tidy(1 / 3) == 0.3333333333
    assert tidy(math.inf) is tidy(math.nan) is tidy(None) is None
