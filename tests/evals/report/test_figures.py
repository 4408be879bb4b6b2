"""Figures as SVG: places are those of the numbers, nothing leaves the picture, and text in them is escaped."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from evals.report.figures import Point, curve, interval_bar, share_bar


def _attributes(svg: str, tag: str, kind: str, *names: str) -> list[tuple[float, ...]]:
    root = ET.fromstring(svg)
    return [tuple(float(each.get(name, "nan")) for name in names) for each in root.iter(tag) if kind in (each.get("class") or "").split()]


def test_the_interval_and_the_margin_stand_on_one_scale() -> None:
    svg = interval_bar(-0.05, -0.10, 0.0, 0.05, 0.10, "a: −5.0")
    [(zero,)] = _attributes(svg, "line", "zero", "x1")
    [(margin,)] = _attributes(svg, "line", "margin", "x1")
    [(estimate,)] = _attributes(svg, "circle", "worse", "cx")
    (low, high), *_ = _attributes(svg, "line", "whisker", "x1", "x2")
    assert margin == estimate
    assert zero - estimate == pytest.approx(2 * (zero - low) / 4, abs=0.1)
    assert high == zero


@pytest.mark.parametrize("effect", [-3.0, 3.0])
def test_what_is_larger_than_the_scale_stays_in_the_picture(effect: float) -> None:
    svg = interval_bar(effect, effect - 1, effect + 1, None, 0.1, "a")
    places = [float(value) for value in re.findall(r'(?:x1|x2|cx)="([\d.-]+)"', svg)]
    assert all(0 <= place <= 260 for place in places)
    assert 'class="margin"' not in svg


def test_a_number_without_an_interval_is_a_dot() -> None:
    assert "whisker" not in interval_bar(0.01, None, None, None, 0.1, "a")


def test_a_curve_rises_with_the_score_and_leaves_blocked_rounds_out_of_its_line() -> None:
    points = [
        Point(0, 0.2, "kept", "base 20"),
        Point(1, 0.9, "learned", "a 90"),
        Point(2, 0.1, "blocked", "b 10"),
        Point(3, 0.8, "kept", "c"),
    ]
    svg = curve(points, 4, "a & b", 0.0, 1.0, [(0.0, "0"), (1.0, "100")])
    root = ET.fromstring(svg)
    dots = [(float(each.get("cx", 0)), float(each.get("cy", 0))) for each in root.iter("circle")]
    assert [x for x, _ in dots] == sorted(x for x, _ in dots)
    assert dots[1][1] < dots[3][1] < dots[0][1] < dots[2][1]
    [line] = root.iter("polyline")
    assert len((line.get("points") or "").split()) == 3
    assert root.get("aria-label") == "a & b: base 20; a 90; b 10; c"


def test_equal_scores_and_a_single_round_have_a_place_too() -> None:
    ET.fromstring(curve([Point(0, 0.5, "kept", "x")], 1, "t", 0.5, 0.5, [(0.5, "50")]))


@pytest.mark.parametrize(("share", "width"), [(0.0, 0.0), (0.25, 50.0), (1.0, 200.0), (1.7, 200.0), (-1.0, 0.0)])
def test_a_share_fills_its_bar(share: float, width: float) -> None:
    svg = share_bar(share, "<i>free</i>")
    assert _attributes(svg, "rect", "fill", "width") == [(width,)]
    assert ET.fromstring(svg).get("aria-label") == "<i>free</i>"
