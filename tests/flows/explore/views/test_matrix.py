"""View 6: the matrix, the items behind a cell, and what is shown where files or runs are gone."""

from __future__ import annotations

import html
import re
import shutil
from pathlib import Path

import pytest

from flows.config.model import SkillstackConfig
from flows.explore import scene
from flows.explore.answer import Missing, attempt
from flows.explore.views import capacity, dynamics, matrix
from flows.lineage import connect
from flows.review.audit import audit_lineage


def test_matrix_and_the_items_behind_a_cell(explored: SkillstackConfig) -> None:
    now = scene.look()
    assert not isinstance(now.records, Missing)
    view = matrix.view_lineage(now.records)
    assert view.audit.matrix[view.rows.index("round 2 beta (osft)")][view.suites.index("alpha")] == pytest.approx(34 / 40)
    row = view.rows.index("round 3 gamma (full)")
    assert row not in view.audit.lineage_rows
    items = matrix.changed_items(view, row, "alpha")
    lost = [item for item in items if item.fate == "lost"]
    assert len(lost) == 34 - 5
    assert lost[0].prompt == "question 5 of alpha"
    assert (lost[0].before, lost[0].after) == ("answer 5", "something else")
    assert "29 lost and 0 gained of 40 items" in matrix.cell_sentence(view, row, "alpha", items)
    assert matrix.worst_cell(view) == ("round 3 gamma (full)", "beta")
    assert matrix.cell_of([{"x": "alpha", "y": "round 2 beta (osft)"}], view) == ("round 2 beta (osft)", "alpha")
    assert matrix.cell_of([], view) is None
    assert matrix.cell_of([{"x": "no such suite", "y": "?"}], view) is None
    assert len(matrix.forgetting_figure(view).data) == 2
    assert len(matrix.matrix_rows(view)) == 4


def test_the_summaries_have_the_reports_intervals(lineage_state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    state = tmp_path / "state"
    shutil.copytree(lineage_state, state, symlinks=True)
    config = SkillstackConfig(state_dir=state)
    scene.use(config)
    now = scene.look()
    assert not isinstance(now.records, Missing)
    view = matrix.view_lineage(now.records)
    result = audit_lineage(config)
    assert view.audit.transfer == result.audit.transfer
    assert view.audit.intervals == result.audit.intervals
    page = " ".join(html.unescape(re.sub("<[^>]+>", " ", result.report.read_text(encoding="utf-8"))).split())
    kept, told = result.audit.transfer, matrix.summary_sentences(view)
    assert kept.bwt is not None
    assert kept.bwt.value == pytest.approx(34 / 40 - 36 / 40), "alpha after beta, less alpha when it was learned"
    assert kept.bwt.low < kept.bwt.value < kept.bwt.high
    for sentence, value in zip(told, (kept.average_accuracy, kept.bwt, kept.forgetting), strict=True):
        assert value is not None
        low, high = (f"{100 * each:.1f}".replace("-", "\N{MINUS SIGN}") for each in (value.low, value.high))
        for text in (sentence, page):
            assert re.search(rf"{low} to \+?{high}", text), (low, high, sentence)


def test_a_run_deleted_meanwhile_and_files_gone(lineage_state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    state = tmp_path / "state"
    shutil.copytree(lineage_state, state, symlinks=True)
    scene.use(SkillstackConfig(state_dir=state))
    now = scene.look()
    assert not isinstance(now.records, Missing)
    assert not isinstance(now.lineage, Missing)
    writer = connect(f"sqlite:///{state / 'mlflow.db'}", model_name="skillstack", experiment="skillstack", state_dir=state)
    writer.client.delete_run(now.records[2].run_id)
    shutil.rmtree(state / "stages" / "evaluate" / "1")
    (state / "stages" / "train" / "1" / "manifest.json").unlink()
    # What was read before the deletion, and what is read after it:
    assert isinstance(attempt(lambda: matrix.view_lineage(scene.look().records)), matrix.LineageView)  # type: ignore[arg-type]
    again = scene.look()
    assert not isinstance(again.records, Missing)
    assert not isinstance(again.lineage, Missing)
    gone = attempt(lambda: dynamics.curve_of_round(again.lineage, again.records[2]))  # type: ignore[arg-type]
    assert isinstance(gone, Missing)
    assert "deleted" in gone.sentence()
    view = matrix.view_lineage(again.records)
    assert any("round 1 alpha" in line for line in view.left_out)
    assert any("deleted" in line for line in view.left_out)
    assert len(view.rows) == 3
    left = capacity.view_capacity(again.records)
    assert len(left.rounds) == 1
    assert left.left_out
    assert isinstance(attempt(lambda: capacity.view_capacity(again.records[:1])), Missing)
