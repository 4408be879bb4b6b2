"""Means with their intervals are the same numbers in the report, in the terminal and in the explorer, and items are counted alike.

Scores: tests/flows/test_same_numbers.py. Free directions: test_capacity.py.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from evals.report.render import render_lineage
from flows.cli.audit import audit_lines
from flows.config.model import SkillstackConfig
from flows.explore import scene
from flows.explore.answer import Missing
from flows.explore.views import matrix
from flows.review.audit import AuditResult


@pytest.fixture
def view(explored: SkillstackConfig) -> matrix.LineageView:
    records = scene.look().records
    assert not isinstance(records, Missing)
    return matrix.view_lineage(records)


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(number) for number in re.findall(r"[-+]?\d+(?:\.\d+)?", re.sub("<[^>]+>", "", text).replace("−", "-")))


def test_every_mean_has_one_value_and_one_interval_everywhere(view: matrix.LineageView, tmp_path: Path) -> None:
    report = render_lineage(view.audit, tmp_path / "audit.html")
    page = report.read_text(encoding="utf-8")
    terminal = [str(line) for line in audit_lines(AuditResult(audit=view.audit, report=report), 200)]
    explorer, transfer = matrix.summary_sentences(view), view.audit.transfer
    names = {
        "Average over learned skills": ("average accuracy: ", "Average over the learned skills, %: ", transfer.average_accuracy),
        "Backward transfer (BWT)": ("bwt: ", "Backward transfer, points (higher is better): ", transfer.bwt),
        "Forgetting (positive is worse)": ("forgetting: ", "Forgetting, points (positive is worse): ", transfer.forgetting),
    }
    for heading, (in_terminal, in_explorer, estimate) in names.items():
        assert estimate is not None
        assert estimate.low < estimate.value < estimate.high, "equal numbers would agree by themselves"
        expected = tuple(pytest.approx(100 * each, abs=0.0501) for each in (estimate.value, estimate.low, estimate.high))
        big = re.search(rf"<span>{re.escape(heading)}</span>\s*<b>(.*?)</b>", page)
        assert big is not None, heading
        assert _numbers(big[1]) == expected
        [line] = [each.removeprefix(in_terminal) for each in terminal if each.startswith(in_terminal)]
        [sentence] = [each.removeprefix(in_explorer) for each in explorer if each.startswith(in_explorer)]
        assert _numbers(line.replace(view.audit.interval, "")) == _numbers(big[1])
        assert _numbers(sentence)[:3] == _numbers(big[1])
    # Alpha went from 36 to 34 of 40 items, beta is new: by hand.
    assert transfer.average_accuracy.value == pytest.approx(np.mean([34 / 40, 38 / 40]))  # type: ignore[union-attr]
    assert transfer.bwt.value == pytest.approx(-2 / 40)  # type: ignore[union-attr]


def test_lost_and_won_items_are_counted_alike(view: matrix.LineageView, tmp_path: Path) -> None:
    """Of alpha two items were lost in the second round, of general one: in the explorer's sentence and list, and in the audit's churn."""
    for suite, lost in (("alpha", 2), ("general", 1)):
        items = matrix.changed_items(view, 2, suite)
        assert [item.fate for item in items] == ["lost"] * lost
        assert f"{lost} lost and 0 gained of 40 items" in matrix.cell_sentence(view, 2, suite, items)
        [churn] = [each for each in view.audit.churn if each.suite == suite]
        assert (churn.items, churn.lost_now, churn.learned) == (40, lost, 0)
