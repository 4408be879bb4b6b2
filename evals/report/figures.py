"""The figures of a report as inline SVG: small, sharp, readable without a script, and coloured by the page's own CSS variables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from evals.numbers import plain


@dataclass(frozen=True)
class Point:
    """One attempt on a curve: x is the number of its round, y a share in [0, 1] or a plain number; `mark` is kept, learned or blocked."""

    x: int
    y: float
    mark: str
    words: str
    low: float | None = None
    high: float | None = None


def curve(points: Sequence[Point], last: int, title: str, bottom: float, top: float, ticks: Sequence[tuple[float, str]]) -> Markup:
    """A score and its interval over the rounds 0 to `last`, so that curves beside each other line up. The line joins what was promoted."""
    width, height, left, right, upper, lower = 260.0, 120.0, 34.0, 10.0, 8.0, 20.0

    def across(x: float) -> float:
        return round(left + x / max(last, 1) * (width - left - right), 1)

    def up(y: float) -> float:
        share = (y - bottom) / (top - bottom) if top > bottom else 0.5
        return round(height - lower - max(0.0, min(1.0, share)) * (height - lower - upper), 1)

    parts = []
    for value, words in ticks:
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{up(value)}" y2="{up(value)}"/>')
        parts.append(f'<text class="tick" x="{left - 5}" y="{up(value) + 3.5}" text-anchor="end">{escape(words)}</text>')
    every = max(1, -(-(last + 1) // 8))
    for number in range(0, last + 1, every):
        parts.append(f'<text class="tick" x="{across(number)}" y="{height - 5}" text-anchor="middle">{number}</text>')
    for point in points:
        if point.low is not None and point.high is not None:
            x = across(point.x)
            parts.append(f'<line class="reach {point.mark}" x1="{x}" x2="{x}" y1="{up(point.low)}" y2="{up(point.high)}"/>')
    line = " ".join(f"{across(point.x)},{up(point.y)}" for point in points if point.mark != "blocked")
    parts.append(f'<polyline class="line" points="{line}"/>')
    for point in points:
        parts.append(
            f'<circle class="dot {point.mark}" cx="{across(point.x)}" cy="{up(point.y)}" r="{5 if point.mark == "learned" else 3.5}"/>'
        )
    words = f"{title}: " + "; ".join(point.words for point in points)
    return _svg("curve", width, height, words, parts)


def loss_curve(losses: Sequence[tuple[int, float]], words: str) -> Markup:
    """Training loss over the steps, from zero up, with the first and last step and the highest loss as ticks."""
    width, height, left, right, upper, lower = 420.0, 140.0, 38.0, 14.0, 8.0, 20.0
    first, last, top = losses[0][0], losses[-1][0], max(loss for _, loss in losses) or 1.0

    def across(step: int) -> float:
        return round(left + (step - first) / max(last - first, 1) * (width - left - right), 1)

    def up(loss: float) -> float:
        return round(height - lower - loss / top * (height - lower - upper), 1)

    parts = []
    for value in (0.0, top / 2, top):
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{up(value)}" y2="{up(value)}"/>')
        parts.append(f'<text class="tick" x="{left - 5}" y="{up(value) + 3.5}" text-anchor="end">{plain(value, 2)}</text>')
    parts.append(f'<text class="tick" x="{left}" y="{height - 5}">step {first}</text>')
    parts.append(f'<text class="tick" x="{width - right}" y="{height - 5}" text-anchor="end">{last}</text>')
    line = " ".join(f"{across(step)},{up(loss)}" for step, loss in losses)
    parts.append(f'<polyline class="line" points="{line}"/>')
    return _svg("curve loss", width, height, words, parts)


def _svg(kind: str, width: float, height: float, words: str, parts: Sequence[str]) -> Markup:
    inner = "".join(parts)
    return Markup(f'<svg class="{kind}" viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(words)}">{inner}</svg>')


def share_bar(share: float, words: str) -> Markup:
    """A filled bar for a share in [0, 1]."""
    filled = round(200 * max(0.0, min(1.0, share)), 1)
    return Markup(
        f'<svg class="share" viewBox="0 0 200 14" role="img" aria-label="{escape(words)}">'
        f'<rect class="track" width="200" height="14" rx="3"/><rect class="fill" width="{filled}" height="14" rx="3"/></svg>'
    )
