"""A sweep: several trainable ratios and update scales, one choice on a tuning split, one round with it.

    skillstack sweep DROP --skill NAME --ratios 0.10:0.40:0.05 [--scales 0.25:1.0:0.25]

Each ratio is one training on the rows outside the tuning split; each scale of a trained update costs only an evaluation. Without ratios,
the scales apply to the update that `skillstack round` trains on all rows. An interrupted sweep continues where it stopped: every training
and evaluation is a stage. The chosen point is trained on all rows as a round, which the gate decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from prefect import flow, task
from pydantic import Field

from data_contracts.escaping import markdown_text
from data_contracts.files import write_atomically
from data_contracts.manifests import EvalReport, Record
from evals.report.scores import percent
from flows.config.model import SkillstackConfig
from flows.config.parameters import ConfigParameter, DropAddress, Heldout, SkillName, named, this_month
from flows.lineage import log_sweep, read_ancestry
from flows.round.base import find_champion
from flows.round.context import STAGE, Trial
from flows.round.flow import continual_round
from flows.round.train import rescale, train
from flows.round.validate import validate
from flows.sweep.frontier import Choice, SweepPoint, choose, measure_point
from flows.sweep.tuning import Tuning, prepare_tuning
from flows.workspace.decompositions import forget_whole
from flows.workspace.drop_address import local_drop
from flows.workspace.outcome import RoundOutcome
from flows.workspace.pages import not_vital, publish_points
from flows.workspace.server import gpu_slot
from flows.workspace.stages import Stage
from flows.workspace.workspace import Workspace, evaluate_model, open_workspace

RATIOS = (0.10, 0.15, 0.20, 0.25, 0.30, 0.35, 0.40)

Ratio = Annotated[float, Field(gt=0.0, le=1.0)]
Ratios = Annotated[
    tuple[Ratio, ...], Field(description="unfreeze_rank_ratio of each training; empty: only the scales of the round's update")
]
Scales = Annotated[
    tuple[Ratio, ...], Field(min_length=1, description="factors of each trained update to evaluate; 1 is the update as trained")
]


class SweepResult(Record):
    skill: str
    points: tuple[SweepPoint, ...]
    choice: Choice
    notes: tuple[str, ...]
    outcome: RoundOutcome | None = Field(description="the round of the chosen point; null with judge: false")
    table: Path = Field(description="JSON file with all points")


@flow(name="sweep", flow_run_name=named("sweep"), persist_result=False)
def sweep(
    drop: DropAddress,
    skill: SkillName,
    config: ConfigParameter,
    ratios: Ratios = RATIOS,
    scales: Scales = (1.0,),
    heldout: Heldout = None,
    judge: bool = True,
) -> SweepResult:
    """Try all ratios and scales, choose one, and run it as a round (unless `judge` is false)."""
    local = local_drop(config, drop)
    items = local_drop(config, heldout) if heldout is not None else None
    workspace = open_workspace(config)
    champion = find_champion(workspace)
    trial = Trial(workspace=workspace, chain=read_ancestry(workspace.lineage, champion.version), drop=local, skill=skill, heldout=items)
    tuning = prepare(trial, hold_out=bool(ratios))
    with gpu_slot(config.service):  # released before the round of the chosen point, which takes its own
        before = measure(workspace, champion.checkpoint / "model", champion.model_sha256, tuning, "champion")
        points = tuple(_points(trial, tuning, before, ratios, scales))
    forget_whole(workspace)
    choice = choose(points)
    table = report(workspace, skill, points, choice, tuning.notes)
    outcome = continual_round(local, skill, at(config, choice.point.ratio), items, choice.point.scale) if judge else None
    return SweepResult(skill=skill, points=points, choice=choice, notes=tuning.notes, outcome=outcome, table=table)


def _points(
    trial: Trial, tuning: Tuning, before: Stage[EvalReport], ratios: Sequence[float], scales: Sequence[float]
) -> Iterator[SweepPoint]:
    """Train each ratio once, and evaluate each of its scales."""
    workspace, skill = trial.workspace, trial.skill
    for ratio in ratios or (trial.config.train.unfreeze_rank_ratio,):
        here = replace(trial, workspace=replace(workspace, config=at(trial.config, ratio)))
        trained = train.with_options(task_run_name=f"train {skill} at ratio {ratio:g}")(here, tuning.drop)
        for scale in sorted(scales, reverse=True):
            candidate = trained if scale == 1.0 else rescale(replace(here, scale=scale), trained)
            label = f"{skill} ratio {ratio:g} scale {scale:g}"
            report = measure(workspace, candidate.folder / "model", candidate.manifest.model_sha256, tuning, label)
            yield measure_point(ratio, scale, report.manifest, before.manifest, tuning.learning, trial.config.gate)


def at(config: SkillstackConfig, ratio: float) -> SkillstackConfig:
    """The config with another unfreeze_rank_ratio."""
    return config.model_copy(update={"train": config.train.model_copy(update={"unfreeze_rank_ratio": ratio})})


@task(name="prepare tuning", task_run_name="prepare tuning {trial.skill}", **STAGE)
def prepare(trial: Trial, *, hold_out: bool) -> Tuning:
    """Validate the drop as a round does, and make the tuning split."""
    return prepare_tuning(trial.workspace, trial.chain, validate(trial), trial.skill, hold_out=hold_out)


@task(name="measure", task_run_name="measure {label}", **STAGE)
def measure(workspace: Workspace, model: Path, model_sha256: str, tuning: Tuning, label: str) -> Stage[EvalReport]:
    return evaluate_model(workspace, model, model_sha256, tuning.suites, label)


@task(name="report sweep", **STAGE)
def report(workspace: Workspace, skill: str, points: Sequence[SweepPoint], choice: Choice, notes: Sequence[str]) -> Path:
    """Write the points to a file, MLflow and Prefect."""
    folder = workspace.config.state_dir / "reports"
    path = folder / f"sweep-{skill}-{this_month()}.json"
    text = "\n".join(sweep_lines(skill, points, choice, notes)) + "\n"
    write_atomically(
        path, SweepTable(skill=skill, points=tuple(points), choice=choice, notes=tuple(notes)).model_dump_json(indent=2) + "\n"
    )
    log_sweep(workspace.lineage, skill, text, [(point.ratio, point.scale, point.learned, point.forgetting) for point in points], path)
    with not_vital(f"the sweep of {skill}"):
        publish_points(text, [point_row(point, choice) for point in points], skill)
    return path


class SweepTable(Record):
    """The content of a sweep's file."""

    skill: str
    points: tuple[SweepPoint, ...]
    choice: Choice
    notes: tuple[str, ...]


def sweep_lines(skill: str, points: Sequence[SweepPoint], choice: Choice, notes: Sequence[str]) -> Iterator[str]:
    """The sweep in Markdown."""
    chosen = choice.point
    yield f"## Sweep of {markdown_text(skill)}: ratio {chosen.ratio:g}, scale {chosen.scale:g}"
    yield ""
    yield f"Chosen on the tuning split, because it {choice.reason}." if choice.reason.startswith(("learns", "within")) else choice.reason
    yield ""
    yield from (f"- {markdown_text(note)}" for note in notes)
    yield ""
    rows = [point_row(point, choice) for point in points]
    yield "| " + " | ".join(rows[0]) + " |"
    yield "|---" * len(rows[0]) + "|"
    yield from ("| " + " | ".join(str(value) for value in row.values()) + " |" for row in rows)


def point_row(point: SweepPoint, choice: Choice) -> dict[str, str]:
    mark = "chosen" if point == choice.point else "on the frontier" if point in choice.frontier else ""
    return {
        "ratio": f"{point.ratio:g}",
        "scale": f"{point.scale:g}",
        "learned, %": percent(point.learned),
        "gain, points": f"{100 * point.gain:+.1f}",
        "margin used": f"{100 * point.forgetting:.0f} %",
        "": mark,
    }
