"""What a sweep picks: never a dominated point, inside the margins where it can, and the more cautious one where learning is a tie."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_contracts.digests import text_digest
from data_contracts.manifests import EvalReport, SuiteResult
from evals.gate.policy import GatePolicy
from flows.sweep.frontier import Setting, SweepPoint, choose, frontier, measure_point

SETTING = Setting(ratio=0.2, learning_rate=1e-3, passes=None)


def point(
    learned: float,
    forgetting: float,
    *,
    gain: float | None = None,
    n: int = 200,
    ratio: float = 0.25,
    scale: float = 1.0,
    passes: int | None = None,
) -> SweepPoint:
    return SweepPoint(
        setting=Setting(ratio=ratio, learning_rate=1e-3, passes=passes),
        steps=40,
        scale=scale,
        learned=learned,
        gain=learned - 0.2 if gain is None else gain,
        n=n,
        forgetting=forgetting,
        losses={},
        model_sha256=text_digest(f"{ratio} {scale} {learned} {forgetting}"),
    )


def report(
    scores: dict[str, tuple[str, float]], *, margins: dict[str, float] | None = None, lower: frozenset[str] = frozenset()
) -> EvalReport:
    """`margins`: of suites with their own; `lower`: suites of which a lower score is better."""
    suites = tuple(
        SuiteResult(
            name=name,
            category=category,
            metric="acc",
            higher_is_better=category != "drift" and name not in lower,
            n=100,
            margin=(margins or {}).get(name),
            score=score,
            suite_sha256=text_digest(name),
            seconds=0.0,
        )
        for name, (category, score) in scores.items()
    )
    return EvalReport(model_sha256=text_digest("m"), settings={}, settings_sha256=text_digest("s"), suites=suites)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 5)), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_no_point_of_the_frontier_is_dominated_and_the_choice_lies_on_it(values: list[tuple[float, float]]) -> None:
    points = [point(learned, forgetting, ratio=0.01 * (1 + index)) for index, (learned, forgetting) in enumerate(values)]
    edge = frontier(points)
    for kept in edge:
        assert not any(o.learned >= kept.learned and o.forgetting < kept.forgetting for o in points)
        assert not any(o.learned > kept.learned and o.forgetting <= kept.forgetting for o in points)
    choice = choose(points)
    assert (choice.point is not None) == any(p.forgetting <= 1.0 and p.gain > 0 for p in points)
    if choice.point is not None:
        assert choice.point in edge
        assert choice.point.forgetting <= 1.0
        assert choice.point.gain > 0.0
    assert (choice.point is None) == bool(choice.next)


def test_a_tie_in_learning_goes_to_what_forgets_less() -> None:
    careful, eager = point(0.80, 0.2, ratio=0.1), point(0.81, 0.9, ratio=0.4)
    assert choose([eager, careful]).point == careful
    clear = point(0.95, 0.9, ratio=0.4)
    assert choose([clear, careful]).point == clear


def test_where_every_point_that_learns_breaks_a_margin_none_is_chosen_and_the_way_on_is_named() -> None:
    choice = choose([point(0.9, 3.0), point(0.6, 1.5), point(0.1, 0.0, gain=-0.1)])
    assert choice.point is None
    assert choice.reason == "Every point that learns exceeds a margin; ratio 0.25 rate 0.001, scale 1 loses least (150 %)."
    assert choice.next == ("Lower rates: --rates 0.0001,0.00033.", "Shares of each update: --scales 0.5,0.75,1.")


@pytest.mark.parametrize(("passes", "words"), [(4, "--passes 12"), (None, "more rows, or --rates 0.002")])
def test_where_no_point_learned_none_is_chosen_and_more_training_is_named(passes: int | None, words: str) -> None:
    choice = choose([point(0.11, 0.0, gain=0.0, passes=passes), point(0.1, 0.0, gain=-0.01, passes=passes)])
    assert choice.point is None
    assert choice.reason.startswith("No point learned the skill; the best score is 11.0, after 40 steps at ratio 0.25 rate 0.001")
    assert choice.next == (f"Train longer or faster: {words}.",)


def test_losses_are_counted_in_shares_of_the_gates_margins() -> None:
    before = report({"new": ("skill", 0.2), "old": ("skill", 0.9), "older": ("skill", 0.9), "text": ("drift", 2.0)})
    after = report({"new": ("skill", 0.7), "old": ("skill", 0.86), "older": ("skill", 0.9), "text": ("drift", 2.01)})
    found = measure_point(SETTING, 40, 1.0, after, before, "new", GatePolicy())
    assert round(found.gain, 9) == 0.5
    assert {name: round(loss, 9) for name, loss in found.losses.items()} == {"old": 0.04, "older": 0.0, "text": 0.005}
    assert round(found.forgetting, 6) == 1.0, "two points over both skills are one margin of two points; drift used half of its own"
    better = report({"new": ("skill", 0.7), "old": ("skill", 0.95), "older": ("skill", 0.95), "text": ("drift", 1.9)})
    assert measure_point(SETTING, 40, 1.0, better, before, "new", GatePolicy()).forgetting == 0.0


@pytest.mark.parametrize(("after", "used"), [(0.7, 10.0), (0.5, 0.0)])
def test_a_score_that_is_better_when_lower_is_lost_by_rising(after: float, used: float) -> None:
    """crows_pairs: from 60 to 70 is ten margins of one point, from 60 to 50 is no loss."""
    lower = frozenset({"crows_pairs"})
    before, now = (report({"new": ("skill", 0.5), "crows_pairs": ("safety", score)}, lower=lower) for score in (0.6, after))
    found = measure_point(SETTING, 40, 1.0, now, before, "new", GatePolicy())
    assert found.losses["crows_pairs"] == pytest.approx(after - 0.6)
    assert found.forgetting == pytest.approx(used)


def test_a_suite_with_its_own_margin_is_asked_by_itself_as_the_gate_asks_it() -> None:
    names = ("old", "older", "loose", "text", "prose")
    before, after = np.array([0.9, 0.8, 0.7, 2.0, 1.0]), np.array([0.89, 0.80, 0.65, 2.01, 1.02])
    loss = before - after
    rise = after / before - 1.0
    margins = {"loose": 0.08, "prose": 0.05}
    wanted = np.array([loss[:2].mean() / 0.02, loss[2] / 0.08, rise[3] / 0.01, rise[4] / 0.05])

    def used(margins: dict[str, float]) -> float:
        categories = ("skill", "skill", "skill", "drift", "drift")
        first, last = (
            report({"new": ("skill", 0.5)} | dict(zip(names, zip(categories, scores, strict=True), strict=True)), margins=margins)
            for scores in (before.tolist(), after.tolist())
        )
        return measure_point(SETTING, 40, 1.0, last, first, "new", GatePolicy()).forgetting

    assert used(margins) == pytest.approx(wanted.max()) == pytest.approx(0.625)
    assert used(margins | {"prose": 0.02}) == pytest.approx(1.0), "two per cent of two per cent"
    assert used(margins | {"loose": 0.01}) == pytest.approx(5.0)
