"""The tags of a version that decisions depend on, as one digest: recorded in the ledger at registration, recomputed by `verify`.

Paths are left out, because a state directory may be moved: the contents of each path have a digest of their own among these tags.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from data_contracts.digests import file_digest, value_digest
from flows.lineage.storage.connection import PREFIX, Lineage

FACTS = (
    "round", "attempt", "skill", "method", "decision", "reasons", "parent_version", "parent_run", "model_sha256", "manifest_sha256",
    "drop_sha256", "drop_manifest_sha256", "evaluation_sha256", "verdict_sha256", "sources",
)  # fmt: skip


def facts_of(tags: Mapping[str, Any]) -> dict[str, str]:
    """`tags`: as in MLflow, with the prefix."""
    return {name: str(tags[PREFIX + name]) for name in FACTS if PREFIX + name in tags}


def facts_digest(tags: Mapping[str, Any]) -> str:
    return value_digest(facts_of(tags))


def all_facts_digest(versions: Iterable[Any]) -> str:
    """One digest over the facts of several versions of MLflow."""
    return value_digest({str(raw.version): facts_of(raw.tags) for raw in versions})


def describe_sources(lineage: Lineage, sources: Mapping[str, Path]) -> str:
    """The user's files that a round reads, by role: path (relative to the project's folder if inside) and digest, as JSON.

    Made before the round reads them: a file that is replaced while the round trains is not the one that it was made from.
    """
    found = {role: [_from_project(lineage, path), file_digest(path)] for role, path in sorted(sources.items()) if path.is_file()}
    return json.dumps(found, ensure_ascii=False)


def read_sources(lineage: Lineage, text: str | None) -> dict[str, tuple[Path, str]]:
    """Role -> (path on this machine, recorded digest)."""
    return {role: (lineage.state_dir.parent / path, sha256) for role, (path, sha256) in json.loads(text or "{}").items()}


def source_of(text: str | None, role: str) -> str:
    """The path of a file that a round read, as it is recorded; empty where it is not."""
    return str(json.loads(text or "{}").get(role, [""])[0])


def _from_project(lineage: Lineage, path: Path) -> str:
    path, project = path.expanduser().resolve(), lineage.state_dir.parent
    return path.relative_to(project).as_posix() if path.is_relative_to(project) else path.as_posix()
