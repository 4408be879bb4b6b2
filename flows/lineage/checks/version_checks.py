"""Compare a version with its manifests, its round's run, its parent, and the files that its round read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from data_contracts.digests import file_digest
from data_contracts.errors import EvaluationError, LineageError, ManifestError
from data_contracts.manifests import (
    MANIFEST_NAME,
    CheckpointManifest,
    DropManifest,
    EvalReport,
    M,
    Verdict,
    manifest_digest,
    read_manifest,
)
from flows.lineage.checks.ledger_rules import Finding
from flows.lineage.registry.replaying import recompute
from flows.lineage.storage.connection import PREFIX, Lineage
from flows.lineage.storage.facts import read_sources
from flows.lineage.storage.records import RegisteredVersion, RoundRecord

_OF_THE_RUN = ("decision", "round", "attempt", "skill")
_EDITED = "one of the two was changed by hand"


def check_version(record: RoundRecord, versions: Mapping[int, RegisteredVersion]) -> Iterator[Finding]:
    """Compare a registered version with its own files. Missing or changed files are found elsewhere."""
    assert record.version is not None
    version = versions[record.version]
    for problem in (*_by_manifests(record, version, versions), *_by_run(version)):
        yield Finding(where=f"version {record.version}", problem=problem, round=record.round, version=record.version)


def _by_manifests(record: RoundRecord, version: RegisteredVersion, versions: Mapping[int, RegisteredVersion]) -> Iterator[str]:
    """Differences between the tags and the files of a version."""
    parent = versions.get(record.parent_version) if record.parent_version is not None else None
    parent_model = parent.fact("model_sha256") if parent else None
    pairs: list[tuple[str, object, object]] = []
    if (checkpoint := _read(record.checkpoint, CheckpointManifest)) is not None:
        pairs += [("skill", record.skill, checkpoint.skill), ("method", record.method, checkpoint.method)]
        pairs += [("model", version.fact("model_sha256"), checkpoint.model_sha256)]
        pairs += [("data", version.fact("drop_sha256"), checkpoint.drop_sha256)]
        pairs += [("parent", parent_model, checkpoint.parent_sha256)]
    if (report := _read(record.evaluation, EvalReport)) is not None:
        pairs += [("evaluated model", version.fact("model_sha256"), report.model_sha256)]
    if (verdict := _read(record.verdict, Verdict)) is not None:
        reasons = json.loads(version.fact("reasons") or "[]")
        pairs += [("verdict", record.decision, verdict.decision.value), ("reasons of the verdict", reasons, list(verdict.reasons))]
        pairs += [("judged model", version.fact("model_sha256"), verdict.candidate_sha256)]
        pairs += [("champion that it was compared with", parent_model, verdict.champion_sha256)]
        pairs += [("report behind the verdict", version.fact("evaluation_sha256"), verdict.inputs.get("candidate"))]
    if (drop := _read(record.drop, DropManifest)) is not None:
        pairs += [("skill of the drop", record.skill, drop.skill)]
        if (known := version.fact("drop_manifest_sha256")) is not None and record.drop is not None:
            pairs += [("manifest of the drop", known, file_digest(record.drop / MANIFEST_NAME))]
    for name, said, found in pairs:
        if said != found:
            yield f"its tags and its files disagree about the {name} ({_short(said)} and {_short(found)}): {_EDITED}"


def _by_run(version: RegisteredVersion) -> Iterator[str]:
    """Differences between the tags and the round's run, from which the gate counts earlier attempts."""
    if version.run is None:
        return
    for name in _OF_THE_RUN:
        said, found = version.fact(name), version.run.data.tags.get(PREFIX + name) or None
        if said != found:
            yield f"its tags and its round's run disagree about the {name} ({_short(said)} and {_short(found)}): {_EDITED}"


def _read(folder: Path | None, kind: type[M]) -> M | None:
    try:
        return None if folder is None else read_manifest(folder, kind, verify=False)
    except ManifestError:
        return None


def _short(value: object) -> str:
    text = "nothing" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text[:12] if len(text) == 64 and text.isalnum() else text[:100]


def check_replay(lineage: Lineage, record: RoundRecord, reports: Mapping[str, Path]) -> Iterator[Finding]:
    """Recompute the verdict of a champion from the stored items."""
    if record.verdict is None:
        return
    try:
        again = recompute(lineage.state_dir, record.verdict, reports)
        problem = _verdict_problem(again, read_manifest(record.verdict, Verdict))
    except (ManifestError, EvaluationError, LineageError) as error:
        yield Finding(where=error.where, problem=f"{error.what} ({error.way_out})", round=record.round, version=record.version)
        return
    if problem:
        yield Finding(where=str(record.verdict), problem=problem, round=record.round, version=record.version)


def _verdict_problem(again: Verdict, stored: Verdict) -> str | None:
    if manifest_digest(again) == manifest_digest(stored):
        return None
    return f"the verdict is {stored.decision.value}, but recomputed from the stored items it is {again.decision.value}, with other bytes"


def check_sources(lineage: Lineage, versions: Mapping[int, RegisteredVersion]) -> Iterator[Finding]:
    """Compare the user's own files with the digests of the newest round that read them."""
    newest: dict[Path, tuple[str, str, int]] = {}
    for number, version in sorted(versions.items()):
        for role, (path, sha256) in read_sources(lineage, version.fact("sources")).items():
            newest[path] = (role, sha256, number)
    for path, (role, sha256, number) in newest.items():
        if not path.is_file():
            if role != "drop":  # a drop may be archived elsewhere; the round keeps its rows
                yield Finding(where=str(path), problem=f"is missing; version {number} was made with it ({role})", version=number)
        elif file_digest(path) != sha256:
            problem = f"is not the file that version {number} was made with ({role}): restore it, or let the next round record the new one"
            yield Finding(where=str(path), problem=problem, version=number)
