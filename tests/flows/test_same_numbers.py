"""One lineage, every place that shows its scores: report, month, terminal, explorer, MLflow and Prefect's artifact hold the same numbers.

The expected ones are means of the stored items, computed here. Intervals: tests/flows/explore/views/test_matrix.py.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from data_contracts.manifests import Decision, EvalReport, read_manifest
from flows.cli.audit import audit_lines
from flows.config.model import SkillstackConfig
from flows.explore import scene
from flows.explore.answer import Missing
from flows.explore.views import matrix
from flows.lineage import Lineage, RoundRecord, current_champion, read_history
from flows.review.audit import AuditResult, audit_lineage
from flows.review.monthly import MonthlyReport, monthly_audit

from .html_tables import HtmlTables

Scores = Mapping[str, Mapping[str, str]]  # round -> suite -> as people read it


@pytest.fixture
def config(grown: Lineage, register: Any, monkeypatch: pytest.MonkeyPatch) -> SkillstackConfig:
    """Base, two promoted rounds, and one that was blocked."""
    register(grown, "third", 3, parent=current_champion(grown).model_sha256, decision=Decision.BLOCK, score=0.7)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{grown.state_dir}/mlflow.db")
    config = SkillstackConfig.model_validate({"state_dir": grown.state_dir, "tracking": {"model_name": "tiny", "experiment": "rounds"}})
    scene.use(config)
    return config


def items_of(record: RoundRecord) -> dict[str, pd.DataFrame]:
    assert record.evaluation is not None
    report = read_manifest(record.evaluation, EvalReport)
    return {suite.name: pd.read_parquet(record.evaluation / report.files[f"items/{suite.name}"].path) for suite in report.suites}


def expected(records: list[RoundRecord]) -> Scores:
    """Weighted means of the items, in percent with one decimal."""
    return {
        f"round {each.round} " + (f"{each.skill} ({each.method})" if each.skill else "base"): {
            suite: f"{100 * np.average(rows['score'], weights=rows['weight']):.1f}" for suite, rows in items_of(each).items()
        }
        for each in records
    }


def of_a_page(page: Path, wanted: Scores) -> Scores:
    """The heat map of an HTML page: suites across, rounds down; below each score stands its change."""
    suites = {suite for scores in wanted.values() for suite in scores}
    for table in HtmlTables(page.read_text(encoding="utf-8")).tables:
        rows = [[" ".join(cell) for cell in row] for row in table]
        named = {cell: index for index, cell in enumerate(rows[0]) if cell in suites}
        lines = {label: row for row in rows[1:] for label in wanted if row and row[0].startswith(label)}
        if named and set(lines) == set(wanted):
            return {label: {suite: row[index].split()[0] for suite, index in named.items() if row[index]} for label, row in lines.items()}
    raise AssertionError(f"{page.name} has no matrix of {sorted(suites)}")


def of_markdown(text: str) -> Scores:
    lines = [
        [cell.strip().replace("\\", "") for cell in line.strip("| ").split(" | ")] for line in text.splitlines() if line.startswith("|")
    ]
    head = next(line for line in lines if line[0] == "after")
    return {line[0]: dict(zip(head[1:-1], line[1:-1], strict=True)) for line in lines if re.match(r"round \d", line[0])}


def of_the_terminal(result: AuditResult) -> Scores:
    """The table of `skillstack audit` has suites down and rounds across, by number."""
    written = Console(file=io.StringIO(), width=200)
    for line in audit_lines(result, 200):
        written.print(line)
    text = written.file.getvalue()  # type: ignore[attr-defined]
    rows = [[cell.strip() for cell in re.split(r"[│┃|]", line.strip("│┃| "))] for line in text.splitlines() if re.search(r"[│┃|]", line)]
    head = next(row for row in rows if row[0] == "suite")
    labels = {str(each.number): each.label for each in result.audit.rounds}
    return {
        labels[number]: {row[0]: row[column] for row in rows if row is not head and len(row) == len(head)}
        for column, number in enumerate(head)
        if number in labels
    }


def without_gaps(scores: Scores) -> Scores:
    return {label: {suite: text for suite, text in row.items() if text not in ("-", "·", "")} for label, row in scores.items()}


def test_one_lineage_has_one_number_for_everything_everywhere(
    config: SkillstackConfig, grown: Lineage, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts: list[str] = []
    monkeypatch.setattr("flows.review.monthly.publish_audit", lambda text, month: artifacts.append(text))
    records = read_history(grown)
    wanted = expected(records)
    assert len(wanted) == 4
    assert len({text for row in wanted.values() for text in row.values()}) > 1, "equal scores would agree by themselves"

    result, month = audit_lineage(config), monthly_audit.fn(config)
    assert isinstance(month, MonthlyReport)
    shown = scene.look().records
    assert not isinstance(shown, Missing)
    view = matrix.view_lineage(shown)
    places = {
        "report": of_a_page(result.report, wanted),
        "month": of_a_page(month.page, wanted),
        "month in Markdown": of_markdown(month.summary.read_text(encoding="utf-8")),
        "Prefect's artifact": of_markdown(artifacts[0]),
        "terminal": of_the_terminal(result),
        "explorer": {row["round"]: {name: text for name, text in row.items() if name != "round"} for row in matrix.matrix_rows(view)},
    }
    for place, scores in places.items():
        assert without_gaps(scores) == wanted, place
    heat = matrix.matrix_figure(view).data[0]
    drawn = {label: dict(zip(heat.x, texts, strict=True)) for label, texts in zip(heat.y, heat.text, strict=True)}
    assert without_gaps(drawn) == wanted
    for record, scores in zip(records, wanted.values(), strict=True):
        kept = {name: f"{100 * value:.1f}" for name, value in record.scores.items()}
        assert kept == scores, f"MLflow, round {record.round}"
