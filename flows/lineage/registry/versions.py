"""Versions of the registered model: path and digests are tags of a version, the weights stay in the state directory."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from data_contracts.digests import file_digest
from data_contracts.errors import LineageError
from data_contracts.escaping import markdown_text
from data_contracts.manifests import MANIFEST_NAME, CheckpointManifest, EvalReport, Verdict, manifest_digest, read_manifest
from flows.lineage.storage.connection import PREFIX, Lineage, as_default, plainly
from flows.lineage.storage.describe import legal_name, manifest_datasets
from flows.lineage.storage.facts import source_of
from flows.lineage.storage.records import RoundRun, VersionRef
from flows.lineage.storage.tracking import log_datasets, real_path, stored_path

_REASONS = 6
CHAMPION, CANDIDATE, PREVIOUS = "champion", "candidate", "previous"


def raw_versions(lineage: Lineage) -> list[Any]:
    """All versions with their tags, oldest first; one request per page."""
    found: list[Any] = []
    token: str | None = None
    while True:
        page = lineage.client.search_model_versions(f"name = '{lineage.model_name}'", max_results=1000, page_token=token)
        found += page
        token = page.token
        if not token:
            return sorted(found, key=lambda version: int(version.version))


def aliases(lineage: Lineage) -> dict[str, int]:
    return {name: int(version) for name, version in lineage.client.get_registered_model(lineage.model_name).aliases.items()}


def as_reference(lineage: Lineage, raw: Any) -> VersionRef:
    """Read a version's tags. Raises LineageError if it was not registered by skillstack."""
    tags = {name.removeprefix(PREFIX): value for name, value in raw.tags.items() if name.startswith(PREFIX)}
    missing = [name for name in ("checkpoint", "model_sha256", "manifest_sha256", "round", "method") if not tags.get(name)]
    if missing:
        raise LineageError(
            f"version {raw.version} of {lineage.model_name}", f"lacks the tags {missing}", "it was registered or edited by hand"
        )
    paths = {role: real_path(lineage, tags.get(role)) for role in ("evaluation", "verdict", "drop")}
    return VersionRef(
        version=int(raw.version),
        round=int(tags["round"]),
        skill=tags.get("skill") or None,
        method=tags["method"],
        decision=tags.get("decision"),
        model_sha256=tags["model_sha256"],
        manifest_sha256=tags["manifest_sha256"],
        parent_version=int(tags["parent_version"]) if tags.get("parent_version") else None,
        checkpoint=lineage.state_dir / tags["checkpoint"],
        drop_file=source_of(tags.get("sources"), "drop"),
        heldout_file=source_of(tags.get("sources"), "held-out items"),
        collected=datetime.fromisoformat(tags["collected"]) if tags.get("collected") else None,
        verdict_sha256=tags.get("verdict_sha256"),
        run_id=raw.run_id or "",
        model_id=tags.get("model_id", ""),
        **paths,
    )


@plainly
def find_version(lineage: Lineage, version: int, *, verify: bool = False) -> VersionRef:
    """The version with a number; `verify` recomputes the digests of its files. Raises LineageError if there is none."""
    from mlflow.exceptions import MlflowException

    try:
        reference = as_reference(lineage, lineage.client.get_model_version(lineage.model_name, str(version)))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        known = [int(raw.version) for raw in raw_versions(lineage)]
        raise LineageError(f"version {version}", f"is not in the registry of {lineage.model_name}", f"versions are {known}") from error
    if verify:
        verify_reference(reference)
    return reference


def verify_reference(reference: VersionRef) -> CheckpointManifest:
    """Read a version's checkpoint and recompute all digests. Raises ManifestError or LineageError for any difference."""
    where = f"version {reference.version} ({reference.checkpoint})"
    if reference.collected is not None:
        way_out = f"rebuild them first: skillstack rebuild {reference.version}"
        raise LineageError(where, f"its dense weights were deleted by gc on {reference.collected:%Y-%m-%d}", way_out)
    manifest = read_manifest(reference.checkpoint, CheckpointManifest)
    for name, found, wanted in (
        ("manifest", manifest_digest(manifest), reference.manifest_sha256),
        ("model", manifest.model_sha256, reference.model_sha256),
    ):
        if found != wanted:
            raise LineageError(
                where, f"its {name} is not the one that was registered ({found[:12]} instead of {wanted[:12]})", "restore it from backup"
            )
    return manifest


def record_version(
    lineage: Lineage,
    parent: RoundRun,
    checkpoint: Path,
    manifest: CheckpointManifest,
    *,
    evaluation: Path | None,
    report: EvalReport | None,
    verdict_folder: Path | None,
    verdict: Verdict | None,
    drop: Path | None,
    sources: str,
) -> VersionRef:
    """Create the version of a round, whatever the verdict. The alias `candidate` points to the newest version.

    Each step may be repeated: the next call finishes an interrupted registration. An existing registration is not changed.
    """
    known = raw_versions(lineage)
    digest = manifest_digest(manifest)
    mine = [
        raw for raw in known if raw.tags.get(PREFIX + "parent_run") == parent.run_id and raw.tags.get(PREFIX + "manifest_sha256") == digest
    ]
    if mine:
        return _link_version(lineage, parent, mine[-1])
    folders = {"checkpoint": checkpoint, "evaluation": evaluation, "verdict": verdict_folder, "drop": drop}
    tags = {role: stored_path(lineage, folder) for role, folder in folders.items() if folder is not None}
    tags |= {"parent_run": parent.run_id, "round": str(parent.round), "attempt": str(parent.attempt), "skill": parent.skill or ""}
    tags |= {"method": manifest.method, "model_sha256": manifest.model_sha256, "manifest_sha256": digest}
    tags |= {"drop_sha256": manifest.drop_sha256} if manifest.drop_sha256 else {}
    tags |= {"drop_manifest_sha256": file_digest(drop / MANIFEST_NAME)} if drop is not None else {}
    tags |= {"sources": sources} if sources else {}
    tags |= {"evaluation_sha256": manifest_digest(report)} if report is not None else {}
    tags |= _parent_tag(known, parent, manifest)
    if verdict is not None:
        tags |= {"verdict_sha256": manifest_digest(verdict), "decision": verdict.decision.value, "reasons": json.dumps(verdict.reasons)}
    return _create_version(lineage, parent, tags, _description(parent, manifest, verdict), report)


def _parent_tag(known: list[Any], parent: RoundRun, manifest: CheckpointManifest) -> dict[str, str]:
    """The version that the round was started from, as the round recorded it: several versions may have the same weights."""
    if manifest.parent_sha256 is None:
        return {}
    where = f"round {parent.round}"
    if parent.parent_version is None:
        raise LineageError(where, "has no record of the champion that it was started from", "open it with the champion's ancestry")
    held = {int(raw.version): raw.tags.get(PREFIX + "model_sha256") for raw in known}
    if held.get(parent.parent_version) != manifest.parent_sha256:
        what = f"was started from version {parent.parent_version}, which does not have the weights that the candidate was trained from"
        raise LineageError(where, f"{what} ({manifest.parent_sha256[:12]})", "run `skillstack verify`, then run the round again")
    return {"parent_version": str(parent.parent_version)}


def _create_version(lineage: Lineage, parent: RoundRun, tags: Mapping[str, str], description: str, report: EvalReport | None) -> VersionRef:
    model_id = _create_external_model(lineage, parent, tags)
    if report is not None:
        _log_model_scores(lineage, parent, model_id, report, tags.get("evaluation", ""))
    named = {PREFIX + name: value for name, value in {**tags, "model_id": model_id}.items()}
    with as_default(lineage):
        raw = lineage.client.create_model_version(
            lineage.model_name, f"models:/{model_id}", run_id=parent.run_id, tags=named, description=description, model_id=model_id
        )
    return _link_version(lineage, parent, raw)


def _link_version(lineage: Lineage, parent: RoundRun, raw: Any) -> VersionRef:
    """Set what points to a version: its model's page, the alias `candidate`, the round's run. Repeating it changes nothing."""
    reference = find_version(lineage, int(raw.version))
    # As mlflow.register_model does: the model's page then links to the version.
    link = json.dumps([{"name": lineage.model_name, "version": reference.version}])
    if reference.model_id:
        lineage.client.set_logged_model_tags(reference.model_id, {"mlflow.modelVersions": link})
    if aliases(lineage).get(CANDIDATE, 0) < reference.version:
        lineage.client.set_registered_model_alias(lineage.model_name, CANDIDATE, str(reference.version))
    lineage.client.set_tag(parent.run_id, PREFIX + "version", str(reference.version))
    return reference


def _create_external_model(lineage: Lineage, parent: RoundRun, tags: Mapping[str, str]) -> str:
    """As `mlflow.create_external_model` does, but with this client instead of process-wide settings."""
    from mlflow.entities.logged_model_status import LoggedModelStatus
    from mlflow.models.model import MLMODEL_FILE_NAME
    from mlflow.models.utils import get_external_mlflow_model_spec

    name = re.sub(r"[^\w-]", "-", f"round-{parent.round}-{parent.skill or 'base'}")
    own = f"source_run_id = '{parent.run_id}' AND tags.`{PREFIX}manifest_sha256` = '{tags['manifest_sha256']}'"
    left = lineage.client.search_logged_models([lineage.experiment_id], filter_string=own)  # from an interrupted registration
    named = {"mlflow.model.isExternal": "true", **{PREFIX + key: value for key, value in tags.items()}}
    if left:
        model = left[0]
        lineage.client.set_logged_model_tags(model.model_id, named)
    else:
        model = lineage.client.create_logged_model(
            lineage.experiment_id, name=name, source_run_id=parent.run_id, tags=named, model_type="skillstack"
        )
    with TemporaryDirectory() as folder:
        get_external_mlflow_model_spec(model).save(str(Path(folder) / MLMODEL_FILE_NAME))
        lineage.client.log_model_artifacts(model.model_id, folder)
    lineage.client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    return str(model.model_id)


def _log_model_scores(lineage: Lineage, parent: RoundRun, model_id: str, report: EvalReport, folder: str) -> None:
    """The suites' scores on the version's page, each linked to its data set; the step is the round."""
    from mlflow.entities import Metric

    log_datasets(lineage, parent.run_id, folder, manifest_datasets(report))
    began = lineage.client.get_run(parent.run_id).info.start_time  # the same in every try, so that repeating adds no second point
    metrics = []
    for suite in report.suites:
        tied = {"model_id": model_id, "dataset_name": suite.name, "dataset_digest": suite.suite_sha256[:36], "run_id": parent.run_id}
        metrics.append(Metric(f"score/{legal_name(suite.name)}", suite.score, began, parent.round, **tied))
        if legal_name(suite.name) != suite.name:
            lineage.client.set_tag(parent.run_id, f"{PREFIX}suite/{legal_name(suite.name)}", suite.name)
    lineage.client.log_batch(parent.run_id, metrics=metrics)


def tag_reevaluation(lineage: Lineage, version: int, report: EvalReport, folder: Path) -> None:
    """Tag a version with a later report on more suites, and log the scores that its run does not have yet."""
    from mlflow.entities import Metric

    reference = find_version(lineage, version)
    if report.model_sha256 != reference.model_sha256:
        raise LineageError(f"version {version}", "the report is about another model", "evaluate this version")
    tags = {"reevaluation": stored_path(lineage, folder), "reevaluation_sha256": manifest_digest(report)}
    for name, value in tags.items():
        lineage.client.set_model_version_tag(lineage.model_name, str(version), PREFIX + name, value)
    run = lineage.client.get_run(reference.run_id)
    if run.info.lifecycle_stage != "active":
        return  # `verify` reports that it was deleted
    there, now = run.data.metrics, int(time.time() * 1000)
    names = {f"score/{legal_name(suite.name)}": suite.score for suite in report.suites}
    fresh = [Metric(name, score, now, reference.round) for name, score in names.items() if name not in there]
    if fresh:
        lineage.client.log_batch(reference.run_id, metrics=fresh)


def _description(parent: RoundRun, manifest: CheckpointManifest, verdict: Verdict | None) -> str:
    """The description of a version: the verdict, then the first reasons, one per line; the round's run has them all."""
    adds = f"adds **{markdown_text(parent.skill)}** by {manifest.method}" if parent.skill else "the base model"
    title = f"Round {parent.round}: {adds}."
    if verdict is None:
        return title
    shown = [f"- {markdown_text(reason)}" for reason in verdict.reasons[:_REASONS]]
    more = len(verdict.reasons) - len(shown)
    rest = [f"- and {more} more, on the page of the round's run"] if more > 0 else []
    lost = [f"**Lost:** {markdown_text(', '.join(verdict.lost))}", ""] if verdict.lost else []
    return "\n".join([f"**{verdict.decision.value}** · {title}", "", *lost, *shown, *rest])
