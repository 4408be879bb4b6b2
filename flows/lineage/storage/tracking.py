"""Runs in MLflow: one parent run per round, one nested run per finished stage, with data sets and metrics."""

from __future__ import annotations

import getpass
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from data_contracts.digests import value_digest
from data_contracts.errors import LineageError
from data_contracts.manifests import MANIFEST_NAME, CheckpointManifest, Manifest, Verdict, manifest_digest
from flows.lineage.storage.connection import PREFIX, Lineage, plainly
from flows.lineage.storage.describe import (
    MAX_TEXT,
    ROUNDS_VIEW,
    legal_name,
    manifest_datasets,
    manifest_metrics,
    manifest_params,
    rounds_view,
    short_list,
    training_curve,
    verdict_note,
)
from flows.lineage.storage.records import RoundRun, Stage, VersionRef

_EVERY_RUN = 3  # mlflow.entities.ViewType.ALL, deleted runs included


def tag(run: Any, name: str) -> str | None:
    value = run.data.tags.get(PREFIX + name)
    return None if value is None else str(value)


def find_runs(lineage: Lineage, kind: str, **tags: str) -> list[Any]:
    """Runs of a kind, deleted ones included, oldest first."""
    wanted = {"kind": kind, **tags}
    condition = " and ".join(f"tags.`{PREFIX}{name}` = '{value}'" for name, value in wanted.items())
    found: list[Any] = []
    token: str | None = None
    while True:
        page = lineage.client.search_runs(
            [lineage.experiment_id],
            condition,
            run_view_type=_EVERY_RUN,
            max_results=1000,
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        found += page
        token = page.token
        if not token:
            return found


@plainly
def open_round(
    lineage: Lineage,
    round_number: int,
    skill: str | None,
    *,
    key: str | None = None,
    tags: Mapping[str, str] | None = None,
    chain: Sequence[VersionRef] = (),
) -> RoundRun:
    """Find the round's parent run by its key, or create it. Raises LineageError if the run was deleted.

    `chain` is the champion's ancestry, the champion last. A run with the key is this round if it was started from that champion, or if its
    version is in the chain: a round whose version has become champion is still the same round.
    """
    key = key or value_digest({"round": round_number, "skill": skill})
    parent = chain[-1].version if chain else None
    same_key = find_runs(lineage, "round", round_key=key)
    own = _own_run(same_key, round_number, parent, {str(version.version) for version in chain})
    if own is not None:
        round_number, parent = int(tag(own, "round") or 0), _number(tag(own, "parent_version"))
    # Another skill with the same round number is not a retry: it follows a rollback, or a skill that was given up.
    siblings = [run for run in find_runs(lineage, "round", round=str(round_number)) if tag(run, "skill") == (skill or "")]
    attempt = len(siblings) + 1 if own is None else int(tag(own, "attempt") or 1)
    common = {"key": key, "round": round_number, "skill": skill, "attempt": attempt, "parent_version": parent}
    if own is None:
        for left in same_key:
            _close_overtaken(lineage, left)
        made = {**(tags or {}), **({PREFIX + "parent_version": str(parent)} if parent is not None else {})}
        return RoundRun(run_id=_create_round(lineage, round_number, skill, key, attempt, made), resumed=False, finished=False, **common)
    run_id = own.info.run_id
    if own.info.lifecycle_stage == "deleted":
        raise LineageError(
            f"round {round_number}", f"its run {run_id} was deleted in MLflow", f"restore it: mlflow runs restore --run-id {run_id}"
        )
    finished = own.info.status == "FINISHED"
    if not finished:
        lineage.client.update_run(run_id, status="RUNNING")
        lineage.client.set_tag(run_id, PREFIX + "resumed", str(int(tag(own, "resumed") or 0) + 1))
    return RoundRun(run_id=run_id, resumed=True, finished=finished, **common)


def _own_run(same_key: Sequence[Any], round_number: int, parent: int | None, line: set[str]) -> Any | None:
    """Of the runs with a round's key, the one to continue: its version is an ancestor of the champion, or it was started from there."""
    served = [run for run in same_key if tag(run, "version") in line]
    begun = [run for run in same_key if tag(run, "round") == str(round_number) and _number(tag(run, "parent_version")) == parent]
    return (served or begun or [None])[-1]


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)


def _close_overtaken(lineage: Lineage, run: Any) -> None:
    """End the run of an interrupted start of the same round whose champion was replaced meanwhile."""
    if run.info.status == "RUNNING" and run.info.lifecycle_stage == "active":
        lineage.client.set_tag(
            run.info.run_id, PREFIX + "error", "interrupted, and another version became champion before it was started again"
        )
        lineage.client.set_terminated(run.info.run_id, status="FAILED")


def _create_round(lineage: Lineage, number: int, skill: str | None, key: str, attempt: int, tags: Mapping[str, str]) -> str:
    name = f"round {number}" + (f" · {skill}" if skill else " · base") + f" · {datetime.now(UTC):%Y-%m}"
    own = {"kind": "round", "round": str(number), "round_key": key, "attempt": str(attempt), "skill": skill or ""}
    named = {PREFIX + k: v for k, v in own.items()} | {"mlflow.user": user_name(), "mlflow.source.name": "skillstack", **tags}
    run = lineage.client.create_run(lineage.experiment_id, tags=named, run_name=name if attempt == 1 else f"{name} · attempt {attempt}")
    return str(run.info.run_id)


@plainly
def log_stage(
    lineage: Lineage,
    parent: RoundRun,
    stage: Stage,
    manifest: Manifest,
    folder: Path,
    *,
    metrics: Mapping[str, float] | None = None,
    artifacts: Sequence[Path] = (),
    seconds: float | None = None,
    code: str | None = None,
) -> str:
    """Record a finished stage below the round; for a manifest that is recorded already, return the existing run.

    `code`: digest of the stage's source, as workspace/code_digest.py computes it."""
    digest = manifest_digest(manifest)
    key = value_digest({"parent": parent.run_id, "stage": stage, "manifest": digest})
    for run in find_runs(lineage, "stage", stage_key=key):
        if run.info.lifecycle_stage == "active" and run.info.status == "FINISHED":
            return str(run.info.run_id)
        lineage.client.delete_run(run.info.run_id)  # interrupted; everything in it is logged again below
    now = int(time.time() * 1000)
    own = {"kind": "stage", "stage": stage, "stage_key": key, "folder": stored_path(lineage, folder)}
    own |= {"code_sha256": code} if code else {}
    named = {PREFIX + k: v for k, v in own.items()} | {
        "mlflow.parentRunId": parent.run_id,
        "mlflow.user": user_name(),
        "mlflow.source.name": "skillstack",
    }
    start = now - int(1000 * (seconds or 0.0))
    run_id, logged = _live_run(lineage, parent, stage, named)
    if run_id is None:
        name = stage_name(parent, stage)
        run_id = str(lineage.client.create_run(lineage.experiment_id, start_time=start, tags=named, run_name=name).info.run_id)
    _log_manifest(lineage, run_id, parent.round, manifest, folder, metrics or {}, logged)
    if isinstance(manifest, Verdict):
        for name, value in (
            ("decision", manifest.decision.value),
            ("reasons", short_list(manifest.reasons)),
            ("lost", short_list(manifest.lost)),
        ):
            lineage.client.set_tag(parent.run_id, PREFIX + name, value)
        lineage.client.set_tag(parent.run_id, "mlflow.note.content", verdict_note(manifest))
    for path in [folder / MANIFEST_NAME, *artifacts]:
        if path.is_file():
            lineage.client.log_artifact(run_id, str(path))
    lineage.client.set_terminated(run_id, status="FINISHED", end_time=now)
    return run_id


@plainly
def stage_codes(lineage: Lineage, run_id: str) -> dict[str, str]:
    """Stage -> digest of the source that made it, of a round's run; of a stage that ran twice the later one."""
    runs = [run for run in find_runs(lineage, "stage") if run.data.tags.get("mlflow.parentRunId") == run_id]
    return {tag(run, "stage") or "": code for run in runs if (code := tag(run, "code_sha256")) is not None}


def stage_name(parent: RoundRun, stage: Stage) -> str:
    """A name that distinguishes the curves of several rounds in one chart."""
    return f"{stage} · {parent.skill or 'base'} · round {parent.round}"


def _live_run(lineage: Lineage, parent: RoundRun, stage: Stage, tags: Mapping[str, str]) -> tuple[str | None, int]:
    """The live run of this stage, with the last step that it has; it becomes the stage's run."""
    for run in find_live_runs(lineage, parent.run_id, stage) if stage == "train" else []:
        for name in sorted(
            tags, key=lambda name: name == PREFIX + "kind"
        ):  # the kind last: if this is interrupted, the run is still found as live
            lineage.client.set_tag(run.info.run_id, name, tags[name])
        return str(run.info.run_id), last_step(lineage, run.info.run_id)
    return None, -1


def find_live_runs(lineage: Lineage, parent_run: str, stage: Stage | None = None) -> list[Any]:
    """Nested runs of a round for unfinished stages."""
    wanted = {"of": parent_run} | ({"stage": stage} if stage is not None else {})
    return [run for run in find_runs(lineage, "live", **wanted) if run.info.lifecycle_stage == "active"]


def end_live_runs(lineage: Lineage, parent_run: str) -> None:
    """Mark the live runs of a failed round as failed. Another start opens them again."""
    for run in find_live_runs(lineage, parent_run):
        lineage.client.set_terminated(run.info.run_id, status="FAILED")


def last_step(lineage: Lineage, run_id: str) -> int:
    """The last training step in MLflow; -1 if there is none."""
    if "train/loss" not in lineage.client.get_run(run_id).data.metrics:
        return -1
    return max((int(point.step) for point in lineage.client.get_metric_history(run_id, "train/loss")), default=-1)


def _log_manifest(
    lineage: Lineage, run_id: str, step: int, manifest: Manifest, folder: Path, extra: Mapping[str, float], logged: int = -1
) -> None:
    from mlflow.entities import Metric, Param

    now = int(time.time() * 1000)
    values = {legal_name(name): value for name, value in {**manifest_metrics(manifest), **extra}.items()}
    metrics = [Metric(name, float(value), now, step) for name, value in values.items()]
    curve = training_curve(folder) if isinstance(manifest, CheckpointManifest) else []
    metrics += [Metric(f"train/{name}", value, now, at) for name, at, value in curve if at > logged]
    params = [Param(legal_name(name), str(value)[:500]) for name, value in manifest_params(manifest).items()]
    for start in range(0, max(len(metrics), 1), 900):  # at most 1000 values per request
        lineage.client.log_batch(run_id, metrics=metrics[start : start + 900], params=params[:90] if start == 0 else [])
    log_datasets(lineage, run_id, stored_path(lineage, folder), manifest_datasets(manifest))


def log_datasets(lineage: Lineage, run_id: str, path: str, datasets: Sequence[tuple[str, str, str]]) -> None:
    """Log inputs by digest. MLflow stores 36 characters of a digest; the full sha256 is a tag of the input."""
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.data.sources import LocalArtifactDatasetSource
    from mlflow.entities import DatasetInput, InputTag

    source = LocalArtifactDatasetSource(path)
    inputs = [
        DatasetInput(
            MetaDataset(source, name=name, digest=sha256[:36])._to_mlflow_entity(),
            [InputTag("mlflow.data.context", context), InputTag(PREFIX + "sha256", sha256)],
        )
        for name, sha256, context in datasets
    ]
    if inputs:
        lineage.client.log_inputs(run_id, inputs)


@plainly
def attach_files(lineage: Lineage, parent: RoundRun | VersionRef, *files: Path) -> None:
    """Log files as artifacts of the round itself, for what belongs to no finished stage; missing files are ignored."""
    for path in files:
        if path.is_file():
            lineage.client.log_artifact(parent.run_id, str(path))


@plainly
def finish_round(lineage: Lineage, parent: RoundRun) -> None:
    """Mark the round as finished: it ended with a verdict, which becomes a column of the table of runs."""
    lineage.client.set_terminated(parent.run_id, status="FINISHED")
    data = lineage.client.get_run(parent.run_id).data
    if (decision := data.tags.get(PREFIX + "decision")) is not None:
        lineage.client.log_param(parent.run_id, "verdict", decision)
    lineage.client.set_experiment_tag(lineage.experiment_id, ROUNDS_VIEW, rounds_view(data.metrics))


@plainly
def record_failure(lineage: Lineage, parent: RoundRun, error: BaseException | str) -> None:
    """Mark the round as failed, with one line as the reason. Another start of the same round continues this run."""
    line = str(error).strip() or type(error).__name__
    lineage.client.set_tag(parent.run_id, PREFIX + "error", line.splitlines()[0][:MAX_TEXT])
    end_live_runs(lineage, parent.run_id)
    lineage.client.set_terminated(parent.run_id, status="FAILED")


def stored_path(lineage: Lineage, path: Path) -> str:
    """The path to store: relative if it is in the state directory, so that the directory can be moved or mounted elsewhere."""
    path = path.expanduser().resolve()
    return path.relative_to(lineage.state_dir).as_posix() if path.is_relative_to(lineage.state_dir) else path.as_posix()


def real_path(lineage: Lineage, stored: str | None) -> Path | None:
    return lineage.state_dir / stored if stored else None


def user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id without a name
        return "unknown"
