"""Round 0: the base model becomes the first champion, the reference for every later loss."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from prefect import task

from data_contracts.digests import model_digest, model_files, value_digest
from data_contracts.errors import CheckpointError, ConfigError, LineageError
from data_contracts.manifests import CheckpointManifest
from flows.base_models.resolve import find_base_model, public_name, resolve_base_model
from flows.lineage import (
    RoundRun,
    VersionRef,
    current_champion,
    finish_round,
    log_stage,
    open_round,
    promote_version,
    read_ancestry,
    register_candidate,
)
from flows.lineage.card import original_base
from flows.round.context import STAGE
from flows.round.failure import failure_recorded
from flows.round.identity import one_first_start
from flows.text.model_facts import model_facts
from flows.workspace.draws import drawn_by
from flows.workspace.stages import Stage, run_stage
from flows.workspace.workspace import Workspace, evaluate_model


@task(name="find champion", **STAGE)
def find_champion(workspace: Workspace) -> VersionRef:
    return ensure_champion(workspace)


def ensure_champion(workspace: Workspace) -> VersionRef:
    """The champion, verified; if there is none and `bootstrap` is true, the base model, registered as round 0.

    Raises LineageError if there is none and `bootstrap` is false: an empty registry often means a wrong address; ConfigError where the
    lineage began with another base model than the config names.
    """
    champion = current_champion(workspace.lineage)
    if champion is not None:
        _require_its_base(workspace, champion)
        return champion
    if not workspace.config.bootstrap:
        raise LineageError(
            workspace.lineage.where,
            "the registry has no champion",
            "set `bootstrap: true` in skillstack.yaml to start with the base model, or correct MLFLOW_TRACKING_URI",
        )
    with one_first_start(workspace.config.state_dir):
        return current_champion(workspace.lineage) or _register_base(workspace)


def _require_its_base(workspace: Workspace, champion: VersionRef) -> None:
    """Raises ConfigError where `base_model` is another model than the one that the lineage began with: rounds go on from the champion, so
    the setting would change nothing but what reports say. A folder that was moved has another name and the same content."""
    base = read_ancestry(workspace.lineage, champion.version)[0]
    recorded, name = original_base(workspace.lineage, base), workspace.config.base_model
    if recorded is None or recorded in (public_name(name), str(Path(name).absolute())):
        return
    folder = None
    with suppress(CheckpointError):  # a folder that is not there
        folder = find_base_model(name, workspace.models)
    if folder is None or model_digest(model_files(folder)) != base.model_sha256:
        what = f"is {name}, and this lineage began with {recorded}"
        raise ConfigError("base_model", what, f"write base_model: {recorded}, or begin another lineage with a state_dir of its own")


def _register_base(workspace: Workspace) -> VersionRef:
    base = resolve_base_model(workspace.config.base_model, workspace.models)
    model_facts(base, workspace.config.train)  # what does not load strictly is refused before anything is copied or registered
    checkpoint = describe_model(workspace, base)
    tags = {"skillstack.base_model": public_name(workspace.config.base_model)}
    run = open_round(workspace.lineage, 0, None, key=value_digest({"round": 0, "model": checkpoint.manifest.model_sha256}), tags=tags)
    with failure_recorded(workspace, run):
        version = _evaluate_and_register(workspace, run, checkpoint)
        reason = f"round 0: the base model {workspace.config.base_model}"
        promote_version(workspace.lineage, version.version, expected_champion=None, reason=reason, actor="bootstrap", verdict=None)
        finish_round(workspace.lineage, run)
    champion = current_champion(workspace.lineage)
    if champion is None:
        raise LineageError(
            workspace.lineage.where, "the base model was registered, but the registry has no champion", "run `skillstack doctor`"
        )
    return champion


def _evaluate_and_register(workspace: Workspace, run: RoundRun, checkpoint: Stage[CheckpointManifest]) -> VersionRef:
    suites = workspace.config.evaluation.suites
    if not suites:  # no general suites; the skills' own suites begin with round 1
        return register_candidate(workspace.lineage, run, checkpoint.folder, checkpoint.manifest)
    model, digest = checkpoint.folder / "model", checkpoint.manifest.model_sha256
    drawn = drawn_by(suites, lambda whole: evaluate_model(workspace, model, digest, whole, "base, all items"))
    report = evaluate_model(workspace, model, digest, drawn, "base")
    log_stage(workspace.lineage, run, "evaluate", report.manifest, report.folder, code=report.code)
    return register_candidate(
        workspace.lineage, run, checkpoint.folder, checkpoint.manifest, evaluation=report.folder, report=report.manifest
    )


def describe_model(workspace: Workspace, folder: Path) -> Stage[CheckpointManifest]:
    """Copy a model folder into the state directory and write its manifest; the original is not changed."""
    from osft_engine.checkpoint.read import describe_base

    files = model_files(folder)

    def build(partial: Path) -> CheckpointManifest:
        shutil.rmtree(partial / "model", ignore_errors=True)
        return describe_base(folder, partial)

    return run_stage(
        workspace.stages, "base", {"model": model_digest(files)}, CheckpointManifest, build, code=("osft_engine.checkpoint.read",)
    )
