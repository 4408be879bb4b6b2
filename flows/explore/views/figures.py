"""How every figure looks: no background and mid tones, so that one figure reads in light and in dark; text takes the colour of the page.

Plotly figures are plain data; the browser draws them with the plotly.js that marimo brings along.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

BLUE, ORANGE, GREEN, PURPLE, GREY = "#3f8fd2", "#e0813a", "#2f9e7a", "#a672c9", "#8a8f98"
"""Tell-apart colours after Okabe and Ito, moved to mid tones: at least 3:1 against white and against near-black."""
_GRID = "rgba(128,128,128,0.25)"
_CLEAR = "rgba(0,0,0,0)"
HEAT = "Cividis"  # keeps its order for readers who do not see red or green


def figure_layout(height: int = 360) -> dict[str, Any]:
    """The workspace's layout, without axes."""
    return {
        "paper_bgcolor": _CLEAR, "plot_bgcolor": _CLEAR, "height": height, "margin": {"l": 60, "r": 16, "t": 36, "b": 52},
        "hovermode": "closest", "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0.0}, "font": {"size": 13},
    }  # fmt: skip


def figure_axis(title: str) -> dict[str, Any]:
    """An axis in the style of all figures, with its title."""
    return {"title": {"text": title}, "gridcolor": _GRID, "zerolinecolor": _GRID, "linecolor": _GRID, "automargin": True}


def styled(figure: go.Figure, *, x: str, y: str, height: int = 360, log_y: bool = False) -> go.Figure:
    """The workspace's layout, with the axes named."""
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
    """A table of numbers as colours, with the numbers written into it where `texts` has them."""
    return go.Heatmap(
        z=[list(row) for row in values], x=list(x), y=list(y), colorscale=HEAT, colorbar={"title": {"text": legend}, "thickness": 12},
        text=None if texts is None else [list(row) for row in texts], texttemplate=None if texts is None else "%{text}",
        hovertemplate="%{y}<br>%{x}<br>%{z:.3g}<extra></extra>", xgap=1, ygap=1,
    )  # fmt: skip


def mark(figure: go.Figure, x: float, text: str, colour: str, *, dash: str = "dash", top: float = 1.0) -> None:
    """A vertical line with its name at the top."""
    figure.add_shape(type="line", x0=x, x1=x, y0=0, y1=1, yref="paper", line={"color": colour, "width": 2, "dash": dash})
    figure.add_annotation(x=x, y=top, yref="paper", text=text, showarrow=False, xanchor="left", yanchor="top", xshift=4)
