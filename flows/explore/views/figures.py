"""The style of all figures: no background and medium colours, readable in light and dark mode; text has the colour of the page.

Plotly figures are plain data; the browser draws them with marimo's plotly.js.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

BLUE, ORANGE, GREEN, PURPLE = "#3f8fd2", "#d9762c", "#2f9e7a", "#a672c9"
"""Colours after Okabe and Ito, in medium tones: contrast at least 3:1 with white and with near-black."""
_GRID = "rgba(128,128,128,0.25)"
_CLEAR = "rgba(0,0,0,0)"
HEAT = "Cividis"  # also readable with red-green colour blindness


def figure_layout(height: int = 360) -> dict[str, Any]:
    """The common layout, without axes."""
    return {
        "paper_bgcolor": _CLEAR, "plot_bgcolor": _CLEAR, "height": height, "margin": {"l": 60, "r": 16, "t": 36, "b": 52},
        "hovermode": "closest", "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0.0}, "font": {"size": 13},
    }  # fmt: skip


def figure_axis(title: str) -> dict[str, Any]:
    """An axis in the style of all figures, with its title."""
    return {"title": {"text": title}, "gridcolor": _GRID, "zerolinecolor": _GRID, "linecolor": _GRID, "automargin": True}


def styled(figure: go.Figure, *, x: str, y: str, height: int = 360, log_y: bool = False) -> go.Figure:
    """Apply the common layout, with titles for the axes."""
    figure.update_layout(figure_layout(height))
    figure.update_xaxes(figure_axis(x))
    figure.update_yaxes(figure_axis(y), type="log" if log_y else None)
    return figure


def line(
    name: str, x: Sequence[float], y: Sequence[float | None], colour: str, *, dash: str = "solid", markers: bool = False
) -> go.Scatter:
    return go.Scatter(
        x=list(x), y=list(y), name=name, mode="lines+markers" if markers else "lines", line={"color": colour, "width": 2, "dash": dash}
    )


def cells(
    values: Sequence[Sequence[float | None]], x: Sequence[str], y: Sequence[str], *, texts: Sequence[Sequence[str]] | None, legend: str
) -> go.Heatmap:
    """A heat map, with the numbers of `texts` in its cells if given."""
    return go.Heatmap(
        z=[list(row) for row in values], x=list(x), y=list(y), colorscale=HEAT, colorbar={"title": {"text": legend}, "thickness": 12},
        text=None if texts is None else [list(row) for row in texts], texttemplate=None if texts is None else "%{text}",
        hovertemplate="%{y}<br>%{x}<br>%{z:.3g}<extra></extra>", xgap=1, ygap=1,
    )  # fmt: skip


def mark(figure: go.Figure, x: float, text: str, colour: str, *, dash: str = "dash", top: float = 1.0) -> None:
    """A vertical line with its name at the top."""
    figure.add_shape(type="line", x0=x, x1=x, y0=0, y1=1, yref="paper", line={"color": colour, "width": 2, "dash": dash})
    figure.add_annotation(x=x, y=top, yref="paper", text=text, showarrow=False, xanchor="left", yanchor="top", xshift=4)
