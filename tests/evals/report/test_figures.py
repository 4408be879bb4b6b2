"""Figures as SVG: places are those of the numbers, nothing leaves the picture, and text in them is escaped."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from evals.report.figures import Point, curve, loss_curve, share_bar


def _attributes(svg: str, tag: str, kind: str, *names: str) -> list[tuple[float, ...]]:
    root = ET.fromstring(svg)
    return [tuple(float(each.get(name, "nan")) for name in names) for each in root.iter(tag) if kind in (each.get("class") or "").split()]


def test_a_curve_rises_with_the_score_and_leaves_blocked_rounds_out_of_its_line() -> None:
    points = [
        Point(0, 0.2, "kept", "base 20"),
        Point(1, 0.9, "learned", "a 90"),
        Point(2, 0.1, "blocked", "b 10"),
        Point(3, 0.8, "kept", "c"),
    ]
    svg = curve(points, 3, "a & b", 0.0, 1.0, [(0.0, "0"), (1.0, "100")])
    root = ET.fromstring(svg)
    dots = [(float(each.get("cx", 0)), float(each.get("cy", 0))) for each in root.iter("circle")]
    assert [x for x, _ in dots] == sorted(x for x, _ in dots)
    assert dots[1][1] < dots[3][1] < dots[0][1] < dots[2][1]
    [line] = root.iter("polyline")
    assert len((line.get("points") or "").split()) == 3
    assert root.get("aria-label") == "a & b: base 20; a 90; b 10; c"


def test_attempts_at_one_round_stand_above_each_other_and_intervals_around_their_dots() -> None:
    points = [
        Point(0, 0.2, "kept", "base"),
        Point(1, 0.3, "blocked", "a, first", 0.25, 0.35),
        Point(1, 0.9, "learned", "a, second", 0.85, 0.95),
    ]
    root = ET.fromstring(curve(points, 1, "a", 0.0, 1.0, [(0.0, "0"), (1.0, "100")]))
    dots = [(float(each.get("cx", 0)), float(each.get("cy", 0))) for each in root.iter("circle")]
    assert dots[1][0] == dots[2][0] > dots[0][0]
    lines = [each for each in root.iter("line") if "reach" in each.get("class", "")]
    reaches = [tuple(float(each.get(name, 0)) for name in ("x1", "y2", "y1")) for each in lines]
    assert len(reaches) == 2
    for (x, y), (at, top, bottom) in zip(dots[1:], reaches, strict=True):
        assert at == x
        assert top < y < bottom
    assert [each.text for each in root.iter("text")] == ["0", "100", "0", "1"], "two rounds, not three"


def test_the_loss_falls_along_its_curve_and_its_ends_are_named() -> None:
    root = ET.fromstring(loss_curve([(1, 4.0), (2, 2.0), (3, 1.0)], "from 4 to 1"))
    [line] = root.iter("polyline")
    heights = [float(pair.split(",")[1]) for pair in (line.get("points") or "").split()]
    assert heights == sorted(heights)
    assert heights[1] - heights[0] == pytest.approx(2 * (heights[2] - heights[1]), abs=0.2)
    assert [each.text for each in root.iter("text")] == ["0", "2", "4", "step 1", "3"]


def test_equal_scores_and_a_single_round_have_a_place_too() -> None:
    ET.fromstring(curve([Point(0, 0.5, "kept", "x")], 0, "t", 0.5, 0.5, [(0.5, "50")]))


@pytest.mark.parametrize(("share", "width"), [(0.0, 0.0), (0.25, 50.0), (1.0, 200.0), (1.7, 200.0), (-1.0, 0.0)])
def test_a_share_fills_its_bar(share: float, width: float) -> None:
    svg = share_bar(share, "<i>free</i>")
    assert _attributes(svg, "rect", "fill", "width") == [(width,)]
    assert ET.fromstring(svg).get("aria-label") == "<i>free</i>"
