"""Evaluate old versions on new suites, so that the accuracy matrix is complete where a suite is newer than a version.

    skillstack reevaluate [--suites FILE]... [--versions N]...

Each version is evaluated on the config's suites, the given suites, and every skill learned so far. The evidence of its verdict does not
change: the new report is recorded beside the old one, and the audit reads both.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from prefect import flow, task
from pydantic import Field

from data_contracts.errors import LineageError
from data_contracts.manifests import Category, EvalReport, Record
from evals.config import SuiteConfig
from evals.suites.resolve import resolve_suites
from flows.config.parameters import ConfigParameter, named
from flows.lineage import RoundRecord, current_champion, find_version, read_ancestry, read_history, rebuild_version, record_reevaluation
from flows.round.context import STAGE
from flows.workspace.draws import drawn_evenly
from flows.workspace.server import gpu_slot
from flows.workspace.stages import Stage
from flows.workspace.workspace import Workspace, evaluate_model, open_workspace, suites_of_skill

Suites = Annotated[tuple[str, ...], Field(description="suite files, sets or lm-eval tasks in addition to the config's")]
Versions = Annotated[tuple[int, ...], Field(description="versions to evaluate; empty: all")]


class Reevaluated(Record):
    """The new scores of one version by suite; `note` says why a version was left out."""

    version: int
    round: int
    skill: str | None
    scores: dict[str, float] = Field(default_factory=dict)
    folder: Path | None = None
    reused: bool = Field(False, description="the report existed already")
    note: str = ""


class Reevaluation(Record):
    suites: tuple[str, ...]
    categories: tuple[Category, ...] = Field(description="of the suites, in their order")
    versions: tuple[Reevaluated, ...]


@flow(name="reevaluate", flow_run_name=named("reevaluate"), persist_result=False)
def reevaluate(config: ConfigParameter, suites: Suites = (), versions: Versions = ()) -> Reevaluation:
    """Evaluate old versions on new suites. Raises LineageError for an unknown version, ConfigError for an unknown suite."""
    workspace = open_workspace(config)
    wanted = _suites(workspace, suites)
    if not wanted:
        raise LineageError("reevaluate", "there is no suite to run", "give suites with --suites, or in evaluation.suites")
    records = _chosen(workspace, versions)
    with gpu_slot(config.service):
        done = tuple(evaluate_version(workspace, record, wanted) for record in records)
    return Reevaluation(suites=tuple(suite.name for suite in wanted), categories=tuple(suite.category for suite in wanted), versions=done)


def _suites(workspace: Workspace, sources: Sequence[str]) -> list[SuiteConfig]:
    """The suites of the config, of the lineage's skills, and the given ones; of two with the same name the later one counts."""
    named_here = resolve_suites([SuiteConfig(source=source) for source in sources], Path.cwd()) if sources else []
    skills: list[SuiteConfig] = []
    champion = current_champion(workspace.lineage, verify=False)
    for version in read_ancestry(workspace.lineage, champion.version) if champion else []:
        if version.skill and version.drop:
            skills += suites_of_skill(workspace, version.skill, version.drop)
    return drawn_evenly(list({suite.name: suite for suite in (*workspace.config.evaluation.suites, *skills, *named_here)}.values()))


def _chosen(workspace: Workspace, versions: Sequence[int]) -> list[RoundRecord]:
    registered = {record.version: record for record in read_history(workspace.lineage) if record.version is not None and record.checkpoint}
    unknown = sorted(set(versions) - set(registered))
    if unknown:
        raise LineageError(f"version {unknown[0]}", "is not in the registry", f"versions are {sorted(registered)}")
    return [record for number, record in sorted(registered.items()) if not versions or number in versions]


@task(name="evaluate version", task_run_name="evaluate version {record.version}", **STAGE)
def evaluate_version(workspace: Workspace, record: RoundRecord, suites: Sequence[SuiteConfig]) -> Reevaluated:
    """Evaluate one version on all suites; deleted weights are rebuilt temporarily."""
    assert record.version is not None
    reference = find_version(workspace.lineage, record.version)
    about = {"version": record.version, "round": record.round, "skill": record.skill}
    label = f"version {record.version}"
    if reference.collected is None:
        find_version(workspace.lineage, record.version, verify=True)
        stage = evaluate_model(workspace, reference.checkpoint / "model", reference.model_sha256, suites, label)
    else:
        with TemporaryDirectory(dir=workspace.config.state_dir, prefix=".reevaluate-") as scratch:
            rebuilt = rebuild_version(workspace.lineage, record.version, out=Path(scratch) / "whole", actor="reevaluate")
            if rebuilt.model_sha256 != reference.model_sha256:
                return Reevaluated(
                    **about, note="its weights were deleted and can be rebuilt up to rounding only, which is not the same model"
                )
            stage = evaluate_model(workspace, Path(scratch) / "whole" / "model", reference.model_sha256, suites, label)
    record_reevaluation(workspace.lineage, record.version, stage.manifest, stage.folder)
    return Reevaluated(**about, scores=_scores(stage), folder=stage.folder, reused=stage.reused)


def _scores(stage: Stage[EvalReport]) -> dict[str, float]:
    return {suite.name: suite.score for suite in stage.manifest.suites}
