"""The style that all figures share."""

from __future__ import annotations

import itertools

import plotly.graph_objects as go
import pytest

from flows.explore.views import figures


def _luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


COLOURS = (figures.BLUE, figures.ORANGE, figures.GREEN, figures.PURPLE)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("page", ["#ffffff", "#111111"])
def test_lines_are_visible_in_light_and_dark_mode(colour: str, page: str) -> None:
    assert _contrast(colour, page) >= 3.0


def test_no_two_colours_are_equal() -> None:
    assert all(one != other for one, other in itertools.combinations(COLOURS, 2))


def test_a_figure_has_titles_and_no_background() -> None:
    figure = figures.styled(go.Figure(figures.line("loss", [1, 2], [3.0, None], figures.BLUE)), x="step", y="loss", log_y=True)
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text, figure.layout.yaxis.type) == ("step", "loss", "log")
    assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"
    assert figure.data[0].y == (3.0, None), "a gap stays a gap"


def test_cells_show_their_texts_only_where_there_are_any() -> None:
    plain = figures.cells([[0.5, None]], ["a", "b"], ["round 1"], texts=None, legend="score")
    assert (plain.text, plain.texttemplate) == (None, None)
    labelled = figures.cells([[0.5, None]], ["a", "b"], ["round 1"], texts=[["50", ""]], legend="score")
    assert [list(row) for row in labelled.text] == [["50", ""]]
    assert labelled.texttemplate == "%{text}"


def test_a_mark_is_a_line_with_its_name() -> None:
    figure = go.Figure()
    figures.mark(figure, 4.0, "cut", figures.ORANGE)
    assert (figure.layout.shapes[0].x0, figure.layout.shapes[0].x1) == (4.0, 4.0)
    assert (figure.layout.annotations[0].x, figure.layout.annotations[0].text) == (4.0, "cut")
