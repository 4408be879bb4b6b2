"""Numbers as people read them: never 7.2e-05 or 1.2e+02."""

from __future__ import annotations

from decimal import Decimal

LEAST = 1e-4
"""What is nearer to zero is said to be so: its digits would be read for more than they are worth."""


def plain(value: float, digits: int = 3) -> str:
    """`digits` significant digits without an exponent: 0.000072, 120, 1,230; not a finite number: nan, inf."""
    text = f"{value:.{digits}g}"
    return f"{Decimal(text):,f}" if "e" in text else text


def rounded(value: float, digits: int = 3) -> str:
    """As `plain`, but of what is nearer to zero than LEAST only the fourth decimal: 0.0001 or 0."""
    return plain(round(value, 4) + 0.0 if abs(value) < LEAST else value, digits)


def size_of(value: float, digits: int = 3) -> str:
    """The size of a positive number: less than 0.0001, 0.000123, 0.05."""
    return f"less than {LEAST:.4f}" if 0.0 < value < LEAST else plain(value, digits)


def with_exponent(value: float, digits: int = 3) -> str:
    """As Python writes it, 7.2e-05: what verdicts of before said."""
    return f"{value:.{digits}g}"


def duration(seconds: float | None) -> str:
    """'45 s', '12 min', '3 h 20 min'; a dash where it is not known."""
    if seconds is None:
        return "–"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
