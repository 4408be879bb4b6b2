"""One lineage, every place that shows what it cost: bits per byte, budgets, free directions, rounds left, times and tokens.

Report, month, terminal, explorer, MLflow, artifacts in Prefect and metrics for Prometheus; the expected numbers come from stored items,
manifests and the times in MLflow, by arithmetic that stands here. Scores: test_same_numbers.py.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from data_contracts.manifests import Decision, DropManifest, EvalReport, read_manifest
from evals.audit.weights import measure_round_drift
from flows.cli.audit import audit_lines, diff_lines
from flows.config.model import SkillstackConfig
from flows.explore import scene
from flows.explore.answer import Missing
from flows.explore.views import capacity, matrix
from flows.lineage import Lineage, RoundRecord, promote_version, read_history
from flows.review.audit import audit_lineage
from flows.review.diff import diff_rounds
from flows.review.metrics import lineage_registry
from flows.review.monthly import MonthlyReport, monthly_audit
from flows.round import register as register_stage
from flows.round.decide import audit, decide
from flows.round.flow import begin_round
from flows.round.reports import Evaluated
from flows.workspace import pages
from flows.workspace.outcome import RoundOutcome
from flows.workspace.stages import Stage
from flows.workspace.workspace import Workspace

from .html_tables import HtmlTables
from .made_rounds import read_by

POLICY = {"accept_unmeasured": ("safety",), "drift_limit": 0.02, "drift_budget": 0.04}
BITS = (1.0, 1.004, 1.009, 1.013)  # of base, two promoted rounds, and one that is blocked for another suite


@dataclass(frozen=True)
class Shown:
    """The lineage after its blocked round, and everything that was written or sent."""

    workspace: Workspace
    outcome: RoundOutcome
    records: list[RoundRecord]
    artifacts: dict[str, Any]

    @property
    def round_page(self) -> str:
        return self.outcome.report.read_text(encoding="utf-8")


@pytest.fixture
def shown(lineage: Lineage, register: Callable[..., Any], make_folders: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Shown:
    """Base, two promoted rounds, and a third one by the stages of a round themselves: audit, decide, register."""
    artifacts: dict[str, Any] = {}
    monkeypatch.setattr(pages, "create_markdown_artifact", lambda text, key, **_: artifacts.update({key: text}))
    monkeypatch.setattr(pages, "create_table_artifact", lambda rows, key, **_: artifacts.update({key: rows}))
    _, champion, base = register(lineage, "base", 0, bits=(BITS[0], BITS[0]))
    promote_version(lineage, champion.version, expected_champion=None, reason="start", actor="test", verdict=None)
    for number, name, free in ((1, "first", 100), (2, "second", 60)):
        _, version, made = register(lineage, name, number, parent=champion.model_sha256, bits=BITS[number - 1 : number + 1], free=free)
        promote_version(lineage, version.version, expected_champion=champion.version, reason="gate", actor="flow", verdict=made.verdict)
        champion = version
    folders = make_folders("third", skill="third", parent=champion.model_sha256, decision=Decision.BLOCK, bits=BITS[2:], free=30)
    config = SkillstackConfig.model_validate(
        {"state_dir": lineage.state_dir, "gate": POLICY, "tracking": {"model_name": "tiny", "experiment": "rounds"}}
    )
    workspace = Workspace(config, lineage)
    round = begin_round(workspace, champion, "contents of third", lineage.state_dir.parent / "third.jsonl", "third")
    before, first = stage_of(workspace.stages / "evaluate" / "third-champion"), stage_of(base.evaluation)
    reports = Evaluated(stage_of(folders.evaluation), before, first, {"old": first}, {}, first_skill=False, new="third")
    candidate = Stage(folders.checkpoint, folders.manifest, reused=True)
    forgetting = audit.fn(round, candidate, reports, measure_round_drift(champion.checkpoint, folders.checkpoint))
    verdict = decide.fn(round, reports, forgetting, {})
    clean = Stage(folders.drop, read_manifest(folders.drop, DropManifest), reused=True)
    outcome = register_stage.register.fn(round, clean, candidate, reports, forgetting, verdict, read_by(round))
    assert outcome.decision is Decision.BLOCK, outcome.reasons
    scene.use(config)
    return Shown(workspace, outcome, read_history(lineage), artifacts)


def stage_of(folder: Path) -> Stage[EvalReport]:
    return Stage(folder, read_manifest(folder, EvalReport), reused=True)


@pytest.fixture
def month(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> MonthlyReport:
    found = monthly_audit.fn(shown.workspace.config)
    assert isinstance(found, MonthlyReport)
    return found


def bits_of(record: RoundRecord) -> float:
    """Bits per byte: the items' mean by their bytes."""
    assert record.evaluation is not None
    rows = pd.read_parquet(record.evaluation / "items" / "prose.parquet")
    return float((rows["score"] * rows["weight"]).sum() / rows["weight"].sum())


def risen(now: float, before: float) -> str:
    """A rise in percent with a sign, as people write it."""
    return f"{100 * (now / before - 1):+.1f}".replace("-", "−")


def labels(shown: Shown) -> Iterator[str]:
    for each in shown.records:
        yield f"round {each.round} " + (f"{each.skill} ({each.method})" if each.skill else "base")


def printed(lines: Any) -> str:
    written = Console(file=io.StringIO(), width=200)
    for line in lines:
        written.print(line)
    return written.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_bits_per_byte_are_the_same_everywhere_and_have_one_sign(shown: Shown, month: MonthlyReport) -> None:
    values = [bits_of(record) for record in shown.records]
    texts, last = [f"{value:.3f}" for value in values], values[-1]
    assert len(set(texts)) == 4
    result = audit_lineage(shown.workspace.config)
    for page in (result.report, month.page, shown.outcome.report):
        rows = HtmlTables(page.read_text(encoding="utf-8"))
        cells = {row[0][0]: row[-1] for row in rows.rows if row and len(row) == 2 and re.match(r"round \d", row[0][0])}
        for label, text, value in zip(labels(shown), texts, values, strict=True):
            change = [] if label.endswith("base") else [f"{risen(value, values[0])} %"]
            assert cells[label] == [text, *change], f"{page.name}, {label}"
    assert [line.split(" | ")[-2] for line in month.summary.read_text().splitlines() if line.startswith("| round")] == texts
    table = printed(audit_lines(result, 200))
    assert re.findall(r"\d\.\d{3}", next(line for line in table.splitlines() if "prose" in line)) == texts, "the terminal"
    compared = printed(diff_lines(diff_rounds(shown.workspace, "2", "3")))
    line = next(line for line in compared.splitlines() if "prose" in line)
    assert re.findall(r"[+-]?\d\.\d{3}", line) == [texts[2], texts[3], f"{last - values[2]:+.3f}"], "diff"
    records = scene.look().records
    assert not isinstance(records, Missing)
    assert [row["prose"] for row in matrix.matrix_rows(matrix.view_lineage(records))] == texts, "the explorer"
    assert [f"{record.scores['prose']:.3f}" for record in shown.records] == texts, "MLflow"
    [suite] = [row for row in shown.artifacts["suites"] if row["suite"] == "prose"]
    assert (suite["champion"], suite["candidate"]) == (f"{texts[2]} bits/byte", f"{texts[3]} bits/byte"), "Prefect"
    assert suite["change"] == f"{last - values[2]:+.3f} bits per byte"

    now, since = f"{risen(last, values[2])} %", f"{risen(last, values[0])} %"
    assert re.search(
        rf"\| prose \| passed \| {re.escape(now)} \(.*\| {re.escape(since)} \(.*\| General text \|", shown.artifacts["verdict"]
    )
    page = " ".join(re.sub("<[^>]*>", " ", shown.round_page).split())
    assert re.search(rf"prose {texts[2]} → {texts[3]} .{{0,20}}{re.escape(now)} \(.{{0,60}}over all rounds {re.escape(since)} \(", page)
    assert f"bits per byte on prose changed by {now} against the champion" in page
    assert f"bits per byte on prose changed by {since} against its anchor" in page
    found = f"tags.`skillstack.stage` = 'decide' and tags.`mlflow.parentRunId` = '{shown.records[-1].run_id}'"
    [run] = shown.workspace.lineage.client.search_runs([shown.workspace.lineage.experiment_id], found)
    for check, before in (("drift", values[2]), ("anchor_drift", values[0])):
        assert -run.data.metrics[f"{check}/prose"] == pytest.approx(last / before - 1, abs=1e-9), (
            "MLflow's metrics of checks are better where positive"
        )


def test_the_budgets_left_are_what_the_changes_leave(shown: Shown, month: MonthlyReport) -> None:
    """The pages of lineage and month count to the champion, the round's own page to its candidate."""
    values = [bits_of(record) for record in shown.records]
    base = f"{next(labels(shown))}"
    for page, now in ((audit_lineage(shown.workspace.config).report, 2), (month.page, 2), (shown.outcome.report, 3)):
        moved = values[now] / values[0] - 1
        text = page.read_text(encoding="utf-8")
        rows = HtmlTables(text[text.index("Budget of losses over all rounds") :])
        assert rows.line("prose")[1:5] == [base, f"{risen(values[now], values[0])} %", "4.0", f"{100 * (0.04 - moved):.1f}"], page.name
        kept = rows.line("piqa, 0-shot")
        assert kept[1:5] == [base, "0.0 points", "3.0", "3.0"]
    changes = HtmlTables(audit_lineage(shown.workspace.config).report.read_text(encoding="utf-8")).line("prose", "drift")
    assert changes[2:4] == [f"{values[0]:.3f}", f"{values[2]:.3f}"]
    assert changes[4].startswith(f"{risen(values[2], values[0])} % (")


def test_free_directions_and_rounds_left_are_those_of_the_manifests(shown: Shown, month: MonthlyReport) -> None:
    """Of 160 and 416 inputs, 40 were trained in each round; of the square layer so many are free, of the wide one half as many."""
    free = {"first": 100, "second": 60, "third": 30}
    mean = {skill: 100 * (count / 160 + count // 2 / 416) / 2 for skill, count in free.items()}
    for page in (audit_lineage(shown.workspace.config).report, month.page, shown.outcome.report):
        text = page.read_text(encoding="utf-8")
        rows = HtmlTables(text[text.index("Capacity left") :])
        for label, record in zip(labels(shown), shown.records, strict=True):
            if record.skill:
                cells = rows.line(label)[-3:]
                trained = f"{100 * (40 / 160 + 40 / 416) / 2:.1f} %"
                assert cells == [f"{mean[record.skill]:.1f} %", trained, str(free[record.skill] // 2 // 40)], f"{page.name}, {label}"
    records = scene.look().records
    assert not isinstance(records, Missing)
    view = capacity.view_capacity(records)
    assert f"{mean['second']:.1f}% free on average" in capacity.sentence(view, 0.25)
    # 40 of 416 inputs are a ratio of 0.096: of a tenth the square layer would move 16, the wide one 42 of its 30.
    assert "0 more rounds at ratio 0.10 fit, limited by model.layers.0.down_proj" in capacity.sentence(view, 0.1)
    assert "1 more round at ratio 0.05 fit, limited by model.layers.0.down_proj" in capacity.sentence(view, 0.05)
    directions = [int(row["free"].split()[0]) for row in capacity.capacity_rows(view)]
    assert sorted(directions) == [30, 60]
    trained = {
        run.data.tags["mlflow.runName"].split(" · ")[1]: run.data.metrics["free_directions"]
        for run in shown.workspace.lineage.client.search_runs(
            [shown.workspace.lineage.experiment_id], "tags.`skillstack.stage` = 'train' and tags.`skillstack.kind` = 'stage'"
        )
        if "free_directions" in run.data.metrics
    }
    assert trained == {"first": 150.0, "second": sum(directions)}, "MLflow"
    registry = lineage_registry(shown.workspace.lineage, "tiny")
    for layers, value in (("mean", mean["second"] / 100), ("least", 30 / 416)):
        assert registry.get_sample_value("skillstack_capacity_free_ratio", {"model": "tiny", "layers": layers}) == pytest.approx(value)


def took(seconds: float) -> str:
    """Made rounds take seconds."""
    assert seconds < 89
    return f"{seconds:.0f} s"


def test_times_and_tokens_are_those_of_mlflow_and_the_manifest(shown: Shown, month: MonthlyReport) -> None:
    """The training read 100 tokens a second for one second (made_rounds)."""
    lineage = shown.workspace.lineage
    seconds = {}
    for record in shown.records:
        info = lineage.client.get_run(record.run_id).info
        seconds[record.skill] = (info.end_time - info.start_time) / 1000
    for page in (audit_lineage(shown.workspace.config).report, month.page, shown.outcome.report):
        text = page.read_text(encoding="utf-8")
        rows = HtmlTables(text[text.index("What each round took") :])
        for record in shown.records:
            if record.skill:
                cells = rows.line(f"round {record.round} {record.skill} version {record.version}")
                assert cells[-2:] == [f"{took(seconds[record.skill])}, 1 s of it training", "100 tokens"], f"{page.name}, {record.skill}"
    page = " ".join(re.sub("<[^>]*>", " ", shown.round_page).split())
    evaluated = sum(suite.seconds for suite in read_manifest(shown.records[-1].evaluation, EvalReport).suites)  # type: ignore[arg-type]
    whole = f"Duration {took(seconds['third'])}, 1 s of it training, {took(evaluated)} evaluation of the candidate"
    assert whole in page
    assert "Cost 100 tokens trained on" in page
    registry = lineage_registry(lineage, "tiny")
    assert registry.get_sample_value("skillstack_round_duration_seconds", {"model": "tiny"}) == pytest.approx(seconds["third"])
    assert registry.get_sample_value("skillstack_round_training_tokens_per_second", {"model": "tiny"}) == 100.0
    assert np.isclose(registry.get_sample_value("skillstack_round_items", {"model": "tiny"}) or 0.0, 4 * 400)
