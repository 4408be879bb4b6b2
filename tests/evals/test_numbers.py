"""Numbers for people have no exponent, whatever their size."""

from __future__ import annotations

import pytest

from evals.numbers import duration, plain, rounded, size_of


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (7.23e-05, 3, "0.0000723"), (1e-4 / 3, 2, "0.000033"), (0.001 / 3, 2, "0.00033"), (0.0005, 3, "0.0005"), (0.123456, 3, "0.123"),
        (118.4, 2, "120"), (1234567.0, 3, "1,230,000"), (0.0, 3, "0"), (-3e-7, 2, "-0.0000003"), (1e-3, 3, "0.001"),
    ],
)  # fmt: skip
def test_a_number_without_an_exponent(value: float, digits: int, text: str) -> None:
    assert plain(value, digits) == text
    assert float(text.replace(",", "")) == pytest.approx(value, rel=0.06)


@pytest.mark.parametrize(
    ("value", "size", "end"),
    [(7.23e-05, "less than 0.0001", "0.0001"), (3e-06, "less than 0.0001", "0"), (0.00012, "0.00012", "0.00012"), (0.5, "0.5", "0.5")],
)
def test_what_is_near_zero_is_said_to_be(value: float, size: str, end: str) -> None:
    assert size_of(value) == size
    assert rounded(value) == end
    assert rounded(-value).lstrip("-") == end


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "–"), (41.3, "41 s"), (89, "89 s"), (725.0, "12 min"), (5300, "88 min"), (5399, "1 h 30 min"), (7261.0, "2 h 1 min")],
)
def test_a_duration_is_written_for_people(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words
