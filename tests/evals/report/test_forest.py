"""The forest plot shows the numbers that the gate computed, at their places, the worst first; the sentences are grouped."""

from __future__ import annotations

import re

import numpy as np
import pytest

from data_contracts.manifests import CheckOutcome, Decision, Verdict
from evals.gate.decide import GatePolicy, decide
from evals.report.forest import Forest, ForestRow, draw_forest, effect_words, small

CATEGORIES = {"old": "skill", "older": "skill", "new": "skill", "piqa": "general", "text": "drift"}
FLOORS = dict.fromkeys(("old", "older", "new", "piqa"), 0.05)


@pytest.fixture
def judged(evidence):
    def build(**changes: object) -> tuple[Verdict, Forest]:
        fields = {"accept_unmeasured": ("general", "safety", "drift")}
        found = evidence(**changes)
        verdict = decide(found, GatePolicy.model_validate(fields))
        scores = {name: (found.champion.suites[name].result.score, items.result.score) for name, items in found.candidate.suites.items()}
        plot = draw_forest(verdict, CATEGORIES, scores, FLOORS)
        assert plot is not None
        return verdict, plot

    return build


def rows_of(plot: Forest) -> dict[str, ForestRow]:
    return {row.subject: row for group in plot.groups for row in group.rows}


def ticks(plot: Forest) -> list[tuple[float, float]]:
    """(percent of the width, value in points) as the axis prints them."""
    found = re.findall(r'<text x="([\d.]+)%"[^>]*>([^<]+)</text>', plot.axis)
    return [(float(x), float(words.replace("−", "-"))) for x, words in found]


def value_at(plot: Forest, x: float) -> float:
    """What the axis says about a place, by the line through its first and last tick."""
    (x0, v0), (x1, v1) = ticks(plot)[0], ticks(plot)[-1]
    return v0 + (x - x0) / (x1 - x0) * (v1 - v0)


def circle_of(row: ForestRow) -> float:
    found = re.search(r'<svg x="([\d.]+)%" y="\d+" overflow="visible"><circle', str(row.figure))
    assert found is not None
    return float(found[1])


def test_marks_and_whiskers_stand_where_the_axis_says(judged) -> None:
    verdict, plot = judged(old=(60, 2))
    row = rows_of(plot)["old"]
    check = next(check for check in verdict.checks if check.subject == "old" and check.check == "regression")
    assert check.low is not None
    assert check.high is not None
    assert value_at(plot, circle_of(row)) == pytest.approx(100 * (2 - 60) / 400, abs=0.05)
    low, high = re.findall(r'<line class="whisker" x1="([\d.]+)%" x2="([\d.]+)%" y1="11" y2="11"', str(row.figure))[0]
    assert value_at(plot, float(low)) == pytest.approx(100 * check.low, abs=0.05)
    assert value_at(plot, float(high)) == pytest.approx(100 * check.high, abs=0.05)
    floor = re.search(r'<line class="limit" x1="([\d.]+)%"', str(row.figure))
    assert floor is not None
    assert value_at(plot, float(floor[1])) == pytest.approx(-5.0, abs=0.05)


def test_all_rows_share_one_scale_and_the_margin_of_a_mean_is_drawn(judged) -> None:
    _, plot = judged()
    figures = [str(row.figure) for row in rows_of(plot).values() if row.figure is not None]
    assert len({tuple(re.findall(r'<line class="(?:grid|zero)" x1="([\d.]+)%"', figure)) for figure in figures}) == 1
    margin = re.search(r'<line class="limit" x1="([\d.]+)%"', str(rows_of(plot)["Earlier skills on average"].figure))
    assert margin is not None
    assert value_at(plot, float(margin[1])) == pytest.approx(-2.0, abs=0.05)


def test_a_gain_beyond_the_scale_is_an_arrow_and_its_number_stands_beside_it(judged) -> None:
    _, plot = judged(gain=200)
    row = rows_of(plot)["new"]
    assert plot.clipped
    assert 'class="beyond"' in str(row.figure)
    assert "<circle" not in str(row.figure)
    assert row.change.startswith("+50.0 (90 %: +")


def test_the_worst_stands_first_and_only_what_blocks_is_red(judged) -> None:
    verdict, plot = judged(older=(60, 2), piqa=(8, 2))
    assert verdict.decision is Decision.BLOCK
    assert plot.groups[0].title == "Earlier skills"
    names = [row.subject for row in plot.groups[0].rows]
    assert names == ["Earlier skills on average", "older", "old"]
    for row in rows_of(plot).values():
        tone = re.search(r'<svg class="plot (\w+)"', str(row.figure))
        if tone is not None:
            assert tone[1] == row.badge[0]
    assert rows_of(plot)["old"].badge[2] == "passed"


def test_the_change_since_the_anchor_is_a_second_mark_below(judged) -> None:
    verdict, plot = judged(since={"old": 6})
    row = rows_of(plot)["old"]
    since = next(check for check in verdict.checks if check.subject == "old" and check.check == "anchor")
    found = re.search(r'<svg x="([\d.]+)%" y="27" overflow="visible"><path class="anchor"', str(row.figure))
    assert found is not None
    assert value_at(plot, float(found[1])) == pytest.approx(-1.5, abs=0.05)
    assert row.since == f"over all rounds {effect_words(since.model_copy(update={'confidence': None}))}"
    assert row.since.startswith("over all rounds −1.5 (")


def test_a_retried_rounds_intervals_carry_their_own_level(judged) -> None:
    """Checks that promote are stricter at a second attempt: a tenth of alpha, so 99 %; the others stay at 90 %."""
    _, plot = judged(attempts=2)
    assert plot.levels == "90 % or 99 %"
    assert "(99 %: " in rows_of(plot)["Earlier skills on average"].change
    assert "(90 %: " in rows_of(plot)["old"].change


def test_an_error_has_no_plot(evidence) -> None:
    found = evidence()
    verdict = decide(type(found)(found.candidate, found.champion, {}, "new"), GatePolicy())
    assert verdict.decision is Decision.ERROR
    assert draw_forest(verdict, CATEGORIES, {}, {}) is None


def _check(check: str = "regression", subject: str = "old", **fields: object) -> CheckOutcome:
    return CheckOutcome.model_validate({"check": check, "subject": subject, "outcome": "pass", "sentence": "s", **fields})


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (_check(effect=-0.095, low=-0.121, high=-0.069, confidence=0.9), "−9.5 (90 %: −12.1 to −6.9)"),
        (_check(effect=0.0), "0.0"),
        (_check(), ""),
        (_check("drift", effect=-0.02, low=-0.03, high=-0.01, confidence=0.95), "+2.0 % (95 %: +1.0 to +3.0)"),
        (_check("drift_warning", effect=-0.0004, low=-0.0005, high=-0.0003, confidence=0.9), "+0.040 % (90 %: +0.030 to +0.050)"),
        (_check("early_warning", effect=-0.05), "−0.050 nats per item"),
    ],
)
def test_an_effect_in_words(check: CheckOutcome, words: str) -> None:
    assert effect_words(check) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(-7.23e-05, "almost 0"), (-0.000193, "−0.00019"), (0.0123, "+0.012"), (-1.5, "−1.5"), (12.3, "+12"), (-460.0, "−460"), (0.0, "+0")],
)
def test_small_numbers_are_written_for_people(value: float, words: str) -> None:
    assert small(value) == words


def test_no_number_on_the_plot_has_an_exponent(judged) -> None:
    warned = CheckOutcome(check="early_warning", subject="old", outcome="n/a", sentence="", effect=-7.23e-05)
    _, plot = judged()
    texts = [effect_words(warned), *(f"{row.change} {row.since} {row.figure}" for row in rows_of(plot).values())]
    assert not any(re.search(r"\d[eE][-+−]?\d", text) for text in texts)
    assert np.isfinite([x for x, _ in ticks(plot)]).all()
