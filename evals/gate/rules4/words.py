"""The wording of the gate: points, p-values and intervals as text, and the CheckOutcome that every check returns."""

from __future__ import annotations

import math
from typing import Literal

from data_contracts.manifests import Category, CheckOutcome
from evals.statistics import Difference, interval, minimum_detectable_effect

Against = Literal["champion", "anchor"]
Outcome = Literal["pass", "block", "inconclusive", "error", "n/a"]
CATEGORY_WORDS: dict[Category, str] = {
    "skill": "earlier skills",
    "general": "general suites",
    "safety": "safety suites",
    "drift": "drift suites",
}
"""Also the subject of a category's check: the space keeps it apart from any suite's name."""


def points(effect: float) -> str:
    """0.012 -> '+1.2 points', with a real minus sign."""
    return f"{signed(effect)} point{'' if f'{abs(100 * effect):.1f}' == '1.0' else 's'}"


def size(effect: float) -> str:
    """-0.05 -> '5.0 points'."""
    return points(abs(effect)).lstrip("+")


def signed(effect: float) -> str:
    text = f"{100 * effect:+.1f}"
    return ("0.0" if float(text) == 0 else text).replace("-", "−")


def p_words(p: float) -> str:
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.2g}" if p < 0.1 else f"p = {p:.2f}"


def tidy(value: float | None) -> float | None:
    """Ten significant digits: far more than matters, fewer than machines disagree about. Not a finite number: None."""
    return float(f"{value:.10g}") if value is not None and math.isfinite(value) else None


def possible(ends: tuple[float, float], worst: float = -1.0) -> tuple[float, float]:
    """An interval cut to what can happen: no score falls or rises by more than 100 points, and no text needs fewer than zero bits.

    An end that is not finite stays: there is no interval then.
    """
    low, high = ends
    return (max(low, worst) if math.isfinite(low) else low, min(high, 1.0) if math.isfinite(high) else high)


def outcome(
    check: str,
    subject: str,
    result: Outcome,
    sentence: str,
    *,
    difference: Difference | None = None,
    alpha: float = 0.05,
    detect_alpha: float | None = None,
    power: float = 0.8,
    p: float | None = None,
    margin: float | None = None,
    needed: int | None = None,
    ends: tuple[float, float] | None = None,
) -> CheckOutcome:
    """One answer with its numbers; the interval is the one whose ends are the one-sided bounds at `alpha`, or `ends`."""
    low, high = ends or (possible(interval(difference, alpha)) if difference else (None, None))
    detectable = minimum_detectable_effect(difference, detect_alpha or alpha, power) if difference else None
    return CheckOutcome(
        check=check,
        subject=subject,
        outcome=result,
        sentence=sentence,
        n=difference.n if difference else None,
        effect=tidy(difference.mean if difference else None),
        low=tidy(low),
        high=tidy(high),
        confidence=tidy(1.0 - 2.0 * alpha) if low is not None and math.isfinite(low) else None,
        p_value=tidy(p),
        margin=tidy(margin),
        minimum_detectable_effect=tidy(detectable),
        items_needed=needed,
    )


def interval_words(difference: Difference, alpha: float) -> str:
    low, high = possible(interval(difference, alpha))
    if not math.isfinite(low):
        return "no interval"
    return f"{100 * (1 - 2 * alpha):.3g} % interval {signed(low)} to {signed(high)}"
