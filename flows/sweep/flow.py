"""A sweep: several rates, passes, trainable ratios and update scales, one choice on a tuning split, one round with it.

    skillstack sweep DROP --skill NAME --rates 3e-4,1e-3 --passes 4,12 --ratios 0.10:0.40:0.05 [--scales 0.25:1.0:0.25]

Each setting is one training on the rows outside the tuning split; each scale of a trained update costs only an evaluation. Without ratios,
rates and passes, the scales apply to the update that `skillstack round` trains on all rows. The cost is said first. An interrupted sweep
continues where it stopped: every training and evaluation is a stage. The chosen point is trained on all rows as a round, which the gate
decides.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from prefect import flow, get_run_logger, task
from pydantic import Field

from data_contracts.escaping import markdown_text
from data_contracts.files import write_atomically
from data_contracts.manifests import EvalReport, Record
from evals.numbers import plain
from evals.report.scores import percent
from flows.config.model import SkillstackConfig
from flows.config.parameters import ConfigParameter, DropAddress, Heldout, Refresh, SkillName, named, this_month
from flows.lineage import log_sweep, read_ancestry
from flows.machine.progress import say
from flows.round.base import find_champion
from flows.round.context import STAGE, Trial
from flows.round.flow import continual_round
from flows.round.train import rescale, train
from flows.round.validate import validate
from flows.sweep.cost import cost_lines
from flows.sweep.frontier import Choice, Setting, SweepPoint, SweepTable, choose, measure_point, table_file
from flows.sweep.tuning import Tuning, prepare_tuning
from flows.workspace.decompositions import forget_whole
from flows.workspace.draws import drawn_evenly
from flows.workspace.drop_address import local_drop
from flows.workspace.outcome import RoundOutcome
from flows.workspace.pages import not_vital, publish_points
from flows.workspace.server import gpu_slot
from flows.workspace.stages import Stage
from flows.workspace.workspace import Workspace, evaluate_model, open_workspace
from osft_engine.config import TrainConfig

RATIOS = (0.10, 0.15, 0.20, 0.25, 0.30, 0.35, 0.40)

Ratio = Annotated[float, Field(gt=0.0, le=1.0)]
Ratios = Annotated[
    tuple[Ratio, ...],
    Field(description="unfreeze_rank_ratio of each training; empty: the config's, or without rates and passes only the round's update"),
]
Rates = Annotated[tuple[Annotated[float, Field(gt=0.0)], ...], Field(description="learning_rate of each training; empty: the config's")]
Passes = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(description="num_epochs of each training; empty: the config's")]
Scales = Annotated[
    tuple[Ratio, ...], Field(min_length=1, description="factors of each trained update to evaluate; 1 is the update as trained")
]


class SweepResult(Record):
    skill: str
    points: tuple[SweepPoint, ...]
    choice: Choice
    notes: tuple[str, ...]
    outcome: RoundOutcome | None = Field(description="the round of the chosen point; null with judge: false, or where none is chosen")
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
    rates: Rates = (),
    passes: Passes = (),
    refresh: Refresh = False,
) -> SweepResult:
    """Try all settings and scales, choose one, and run it as a round (unless `judge` is false). Where no point learned the skill, or every
    one that did lost more than a margin, none is chosen and none is judged. `refresh`: as in a round; what the skill's earlier drops taught
    is part of what must not be lost."""
    local = local_drop(config, drop)
    items = local_drop(config, heldout) if heldout is not None else None
    workspace = open_workspace(config)
    champion = find_champion(workspace)
    chain = read_ancestry(workspace.lineage, champion.version)
    trial = Trial(workspace=workspace, chain=chain, drop=local, skill=skill, heldout=items, refresh=refresh)
    trains = bool(ratios or rates or passes)
    tuning = prepare(trial, hold_out=trains)
    settings = settings_of(config.train, ratios, rates, passes)
    for line in cost_lines(settings if trains else (), scales, tuning.drop.manifest.rows_clean, config.train, champion.checkpoint):
        say(line)
        get_run_logger().info("%s", line)
    with gpu_slot(config.service):  # released before the round of the chosen point, which takes its own
        before = measure(workspace, champion.checkpoint / "model", champion.model_sha256, tuning, "champion")
        points = tuple(_points(trial, tuning, before, settings, scales))
    forget_whole(workspace)
    choice = choose(points)
    table = report(workspace, skill, points, choice, tuning.notes)
    chosen = choice.point
    outcome = continual_round(local, skill, at(config, chosen.setting), items, chosen.scale, refresh) if judge and chosen else None
    return SweepResult(skill=skill, points=points, choice=choice, notes=tuning.notes, outcome=outcome, table=table)


def _points(
    trial: Trial, tuning: Tuning, before: Stage[EvalReport], settings: Sequence[Setting], scales: Sequence[float]
) -> Iterator[SweepPoint]:
    """Train each setting once, and evaluate each of its scales."""
    workspace, skill = trial.workspace, trial.skill
    for setting in settings:
        here = replace(trial, workspace=replace(workspace, config=at(trial.config, setting)))
        trained = train.with_options(task_run_name=f"train {skill} at {setting}")(here, tuning.drop)
        steps = trained.manifest.summary.steps if trained.manifest.summary else 0
        for scale in sorted(scales, reverse=True):
            candidate = trained if scale == 1.0 else rescale(replace(here, scale=scale), trained)
            label = f"{skill} {setting} scale {scale:g}"
            report = measure(workspace, candidate.folder / "model", candidate.manifest.model_sha256, tuning, label)
            yield measure_point(setting, steps, scale, report.manifest, before.manifest, tuning.learning, trial.config.gate)


def settings_of(train: TrainConfig, ratios: Sequence[float], rates: Sequence[float], passes: Sequence[int]) -> tuple[Setting, ...]:
    """Every combination, the config's own value where a list is empty."""
    every = itertools.product(ratios or (train.unfreeze_rank_ratio,), rates or (train.peak_learning_rate,), passes or (train.num_epochs,))
    return tuple(Setting(ratio=ratio, learning_rate=rate, passes=count) for ratio, rate, count in every)


def at(config: SkillstackConfig, setting: Setting) -> SkillstackConfig:
    """The config with a setting. What the config itself has stays as it is written there, so that it is the same round."""
    own = config.train
    found: dict[str, float | int | None] = {}
    if setting.ratio != own.unfreeze_rank_ratio:
        found["unfreeze_rank_ratio"] = setting.ratio
    if setting.learning_rate != own.peak_learning_rate:
        found["learning_rate"] = setting.learning_rate
    if setting.passes != own.num_epochs:
        found["num_epochs"] = setting.passes
    return config.model_copy(update={"train": own.model_copy(update=found)})


@task(name="prepare tuning", task_run_name="prepare tuning {trial.skill}", **STAGE)
def prepare(trial: Trial, *, hold_out: bool) -> Tuning:
    """Validate the drop as a round does, and make the tuning split."""
    return prepare_tuning(trial.workspace, trial.chain, validate(trial), trial.skill, hold_out=hold_out)


@task(name="measure", task_run_name="measure {label}", **STAGE)
def measure(workspace: Workspace, model: Path, model_sha256: str, tuning: Tuning, label: str) -> Stage[EvalReport]:
    return evaluate_model(workspace, model, model_sha256, drawn_evenly(tuning.suites), label)


@task(name="report sweep", **STAGE)
def report(workspace: Workspace, skill: str, points: Sequence[SweepPoint], choice: Choice, notes: Sequence[str]) -> Path:
    """Write the points to a file, MLflow and Prefect."""
    path = table_file(workspace.config.state_dir, skill, this_month())
    text = "\n".join(sweep_lines(skill, points, choice, notes)) + "\n"
    write_atomically(
        path, SweepTable(skill=skill, points=tuple(points), choice=choice, notes=tuple(notes)).model_dump_json(indent=2) + "\n"
    )
    log_sweep(
        workspace.lineage,
        skill,
        text,
        [(point.setting.ratio, chart_name(point), point.learned, point.forgetting) for point in points],
        path,
    )
    with not_vital(f"the sweep of {skill}"):
        publish_points(text, [point_row(point, choice) for point in points], skill)
    return path


def chart_name(point: SweepPoint) -> str:
    """The curve that a point belongs to: charts have the ratio as their axis."""
    passes = "" if point.setting.passes is None else f" passes {point.setting.passes}"
    return f"rate {plain(point.setting.learning_rate)}{passes} scale {point.scale:g}"


def sweep_lines(skill: str, points: Sequence[SweepPoint], choice: Choice, notes: Sequence[str]) -> Iterator[str]:
    """The sweep in Markdown."""
    chosen = choice.point
    yield f"## Sweep of {markdown_text(skill)}: " + (f"{chosen.setting}, scale {chosen.scale:g}" if chosen else "no point is chosen")
    yield ""
    yield f"Chosen on the tuning split, because it {choice.reason}." if chosen else choice.reason
    yield ""
    if choice.next:
        yield "What to try next:"
        yield ""
        yield from (f"{number}. {step}" for number, step in enumerate(choice.next, 1))
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
        "ratio": f"{point.setting.ratio:g}",
        "rate": f"{plain(point.setting.learning_rate)}",
        "passes": f"{point.setting.passes or '-'}",
        "steps": str(point.steps),
        "scale": f"{point.scale:g}",
        "learned, %": percent(point.learned),
        "gain, points": f"{100 * point.gain:+.1f}",
        "margin used": f"{100 * point.forgetting:.0f} %",
        "": mark,
    }
