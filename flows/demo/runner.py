"""The demo: the same flow, gate and registry that users get, on a model that is included in the package.

    skillstack demo [--model smollm2]

It writes drops and suites into a folder, runs the rounds of the story one after another on one lineage, and prints the result.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from data_contracts.files import write_atomically
from data_contracts.manifests import Decision, Record
from evals.report.scores import percent
from flows.config.model import CONFIG_NAME, SkillstackConfig, parse_config
from flows.demo.chapters import Chapter, Story
from flows.demo.story import write_story
from flows.machine.progress import say
from flows.review.audit import audit_lineage
from flows.round.flow import continual_round
from flows.workspace.outcome import RoundOutcome


class DemoRow(Record):
    """One round in the demo's table. `changes`: 'before → after' in % for each protected suite."""

    round: int
    skill: str
    method: str
    learned: str
    changes: dict[str, str]
    decision: Decision
    reason: str
    lost: tuple[str, ...]


class DemoResult(Record):
    rows: tuple[DemoRow, ...]
    suites: tuple[str, ...]
    report: Path
    commands: dict[str, str]
    as_expected: bool


def run_demo(model: str, folder: Path) -> DemoResult:
    """Run the story of a model in an absolute folder. A repeated call continues it, or returns the same result."""
    story = write_story(model, folder)
    write_atomically(folder / CONFIG_NAME, yaml.safe_dump(story.config, sort_keys=False))  # for the other commands
    outcomes = [_run_chapter(story, chapter, folder) for chapter in story.chapters]
    audit = audit_lineage(_config(story, story.chapters[-1], folder), folder / "lineage.html")
    state, programs = folder / "state", Path(sys.executable).parent
    return DemoResult(
        rows=tuple(_row(outcome) for outcome in outcomes),
        suites=_protected(outcomes),
        report=audit.report,
        commands={
            "History": f"{programs / 'skillstack'} history --config {folder / CONFIG_NAME}",
            "MLflow": f"{programs / 'mlflow'} ui --backend-store-uri sqlite:///{state / 'mlflow.db'}",
            "Prefect": f"PREFECT_HOME={state / 'prefect'} {programs / 'prefect'} server start",
        },
        as_expected=[outcome.decision for outcome in outcomes] == [chapter.expected for chapter in story.chapters],
    )


def _run_chapter(story: Story, chapter: Chapter, folder: Path) -> RoundOutcome:
    say(f"\n{chapter.title}", style="bold")
    outcome = continual_round(chapter.drop, chapter.skill, _config(story, chapter, folder), None)
    say(outcome.reasons[0])
    return outcome


def _config(story: Story, chapter: Chapter, folder: Path) -> SkillstackConfig:
    values = {**story.config, "train": {**story.config.get("train", {}), **chapter.train}}
    return parse_config(values, where=f"demo round {chapter.skill}", folder=folder)


def _row(outcome: RoundOutcome) -> DemoRow:
    changes = {suite.suite: f"{percent(suite.before)} → {percent(suite.after)}" for suite in outcome.suites if suite.category != "drift"}
    return DemoRow(
        round=outcome.round,
        skill=outcome.skill,
        method=outcome.method,
        learned=changes.pop(outcome.skill, "-"),
        changes=changes,
        decision=outcome.decision,
        reason=outcome.reasons[0],
        lost=outcome.lost,
    )


def _protected(outcomes: Sequence[RoundOutcome]) -> tuple[str, ...]:
    """All suites that a round had to keep, in the order in which they were added."""
    names = {
        suite.suite: None for outcome in outcomes for suite in outcome.suites if suite.category != "drift" and suite.suite != outcome.skill
    }
    return tuple(names)
