"""Small plots as SVG text: horizontal bars and a histogram, in colours that the page's style sheet decides (light or dark)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import log

_WIDTH, _LABEL, _LINE = 640, 210, 24
_PLOT_HEIGHT = 170


@dataclass(frozen=True)
class Bar:
    """One bar; `kind` is a CSS class (error, drop, warning) or empty."""

    label: str
    value: int
    kind: str = ""


def bar_chart(bars: Sequence[Bar], unit: str) -> str:
    """Horizontal bars with their values written beside them."""
    most = max((bar.value for bar in bars), default=0) or 1
    room = _WIDTH - _LABEL - 80
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_LINE * len(bars) + 4}" role="img" aria-label="bars, {escape(unit)}">']
    for place, bar in enumerate(bars):
        y, width = place * _LINE + 4, max(bar.value / most * room, 1.0 if bar.value else 0.0)
        label = bar.label if len(bar.label) <= 32 else f"{bar.label[:31]}…"
        parts.append(
            f'<text x="{_LABEL - 8}" y="{y + 14}" class="label" text-anchor="end">{escape(label)}</text>'
            f'<rect x="{_LABEL}" y="{y}" width="{width:.1f}" height="{_LINE - 6}" rx="2" class="bar {bar.kind}">'
            f"<title>{escape(bar.label)}: {bar.value:,} {escape(unit)}</title></rect>"
            f'<text x="{_LABEL + width + 6:.1f}" y="{y + 14}" class="value">{bar.value:,}</text>'
        )
    return "".join([*parts, "</svg>"])


def histogram(bins: Sequence[tuple[float, float, int]], unit: str, limit: float | None) -> str:
    """bins: (from, to, rows), ascending, of any width; drawn on a logarithmic axis. `limit` is marked with a line."""
    low, high = max(bins[0][0], 1.0), max(bins[-1][1], limit or 0.0, 2.0)
    most = max(rows for _, _, rows in bins)
    base = _PLOT_HEIGHT - 24

    def across(value: float) -> float:
        return 30 + (_WIDTH - 60) * (log(max(value, low)) - log(low)) / (log(high) - log(low))

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_PLOT_HEIGHT}" role="img" aria-label="histogram of length in {escape(unit)}">']
    for begin, end, rows in bins:
        x, height = across(begin), rows / most * (base - 18)
        box = f'x="{x:.1f}" y="{base - height:.1f}" width="{max(across(end) - x - 1, 1):.1f}" height="{height:.1f}"'
        parts.append(f'<rect {box} class="bar"><title>{begin:g} to {end:g} {escape(unit)}: {rows:,} rows</title></rect>')
    parts += [_tick(across(value), base, f"{value:,}") for value in _ticks(low, high)]
    if limit is not None:
        at = f"{across(limit):.1f}"
        parts.append(f'<line x1="{at}" x2="{at}" y1="4" y2="{base}" class="limit"/>')
        parts.append(f'<text x="{at}" y="14" dx="-4" class="label" text-anchor="end">limit {limit:,}</text>')
    parts.append(f'<line x1="30" x2="{_WIDTH - 30}" y1="{base}" y2="{base}" class="axis"/></svg>')
    return "".join(parts)


def _tick(x: float, base: float, label: str) -> str:
    return f'<text x="{x:.1f}" y="{base + 16}" class="label" text-anchor="middle">{label}</text>'


def _ticks(low: float, high: float) -> list[int]:
    """1, 2, 5, 10, 20, ... between low and high, thinned to at most eight."""
    values = [step * 10**power for power in range(10) for step in (1, 2, 5) if low <= step * 10**power <= high]
    return values[:: max(1, -(-len(values) // 8))]
