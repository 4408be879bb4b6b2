"""A score has one spelling on every page, table and terminal."""

from __future__ import annotations

from evals.report.scores import change_text, percent, score_text


def test_shares_are_in_percent_and_bits_per_byte_in_three_decimals() -> None:
    assert percent(0.625) == "62.5"
    assert (score_text(0.5, "skill"), score_text(1.0, "safety"), score_text(0.98765, "drift")) == ("50.0", "100.0", "0.988")
    assert (score_text(None, "general"), score_text(None, "drift")) == ("-", "-")


def test_a_change_has_its_sign_and_unit() -> None:
    assert (change_text(-0.025, "skill"), change_text(0.0, "general")) == ("-2.5 points", "+0.0 points")
    assert change_text(0.0125, "drift") == "+0.013 bits per byte"
