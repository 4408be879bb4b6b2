"""Scores as people read them, one way everywhere: percent for shares of right answers, three decimals for bits per byte."""

from __future__ import annotations


def percent(share: float) -> str:
    """A share in [0, 1] in percent, with one decimal."""
    return f"{100 * share:.1f}"


def score_text(value: float | None, category: str) -> str:
    """A suite's score in its own unit, without the unit; a dash where it was not measured."""
    if value is None:
        return "-"
    return f"{value:.3f}" if category == "drift" else percent(value)


def change_text(change: float, category: str) -> str:
    """A change of a suite's score, signed, with its unit."""
    return f"{change:+.3f} bits per byte" if category == "drift" else f"{100 * change:+.1f} points"
