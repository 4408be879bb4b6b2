"""The figures of a report as inline SVG: small, sharp, readable without a script, and coloured by the page's own CSS variables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape


@dataclass(frozen=True)
class Point:
    """One round on a curve: x is the row, y a share in [0, 1] or a plain number; `mark` is kept, learned or blocked."""

    x: int
    y: float
    mark: str
    words: str


def interval_bar(effect: float, low: float | None, high: float | None, margin: float | None, reach: float, words: str) -> Markup:
    """One row of a forest plot: zero line, the margin (dashed), the interval and the estimate, on a scale from -reach to +reach."""
    width, middle = 260.0, 130.0

    def place(value: float) -> float:
        return round(middle + max(-1.0, min(1.0, value / reach)) * (middle - 8), 1)

    parts = [f'<line class="zero" x1="{middle}" x2="{middle}" y1="2" y2="22"/>']
    if margin:
        parts.append(f'<line class="margin" x1="{place(-margin)}" x2="{place(-margin)}" y1="2" y2="22"/>')
    if low is not None and high is not None:
        parts.append(f'<line class="whisker" x1="{place(low)}" x2="{place(high)}" y1="12" y2="12"/>')
        parts += [f'<line class="whisker" x1="{place(end)}" x2="{place(end)}" y1="8" y2="16"/>' for end in (low, high)]
    side = "worse" if effect < 0 else "better"
    parts.append(f'<circle class="{side}" cx="{place(effect)}" cy="12" r="4.5"/>')
    inner = "".join(parts)
    return Markup(f'<svg class="bar" viewBox="0 0 {width:.0f} 24" role="img" aria-label="{escape(words)}">{inner}</svg>')


def curve(points: Sequence[Point], rows: int, title: str, bottom: float, top: float, ticks: Sequence[tuple[float, str]]) -> Markup:
    """A score over the rounds. `rows` is the number of rounds on the x axis, so that curves beside each other line up."""
    width, height, left, right, upper, lower = 260.0, 120.0, 34.0, 8.0, 8.0, 20.0
    span = max(rows - 1, 1)

    def at(point: Point) -> tuple[float, float]:
        x = left + point.x / span * (width - left - right)
        share = (point.y - bottom) / (top - bottom) if top > bottom else 0.5
        return round(x, 1), round(height - lower - share * (height - lower - upper), 1)

    parts = []
    for value, words in ticks:
        _, y = at(Point(0, value, "", ""))
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="tick" x="{left - 5}" y="{y + 3.5}" text-anchor="end">{escape(words)}</text>')
    for row in range(rows):
        if rows <= 8 or row % 2 == 0:
            x, _ = at(Point(row, bottom, "", ""))
            parts.append(f'<text class="tick" x="{x}" y="{height - 5}" text-anchor="middle">{row}</text>')
    line = " ".join(f"{x},{y}" for x, y in (at(point) for point in points if point.mark != "blocked"))
    parts.append(f'<polyline class="line" points="{line}"/>')
    for point in points:
        x, y = at(point)
        parts.append(f'<circle class="dot {point.mark}" cx="{x}" cy="{y}" r="{5 if point.mark == "learned" else 3.5}"/>')
    words = f"{title}: " + "; ".join(point.words for point in points)
    inner = "".join(parts)
    return Markup(f'<svg class="curve" viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(words)}">{inner}</svg>')


def share_bar(share: float, words: str) -> Markup:
    """A filled bar for a share in [0, 1]."""
    filled = round(200 * max(0.0, min(1.0, share)), 1)
    return Markup(
        f'<svg class="share" viewBox="0 0 200 14" role="img" aria-label="{escape(words)}">'
        f'<rect class="track" width="200" height="14" rx="3"/><rect class="fill" width="{filled}" height="14" rx="3"/></svg>'
    )
