"""Versions and champion from the SQLite file of MLflow itself, for a page's list of models: importing MLflow takes two seconds.

Only what that list shows, and only if every version looks as skillstack registers it; otherwise the caller asks MLflow (reading.py).
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from flows.config.model import SkillstackConfig
from flows.machine.environment import tracking_uri

_PREFIX = "skillstack."
_EXPERIMENT = "SELECT 1 FROM experiments WHERE name = ? AND lifecycle_stage = 'active'"
_VERSIONS = "SELECT version FROM model_versions WHERE name = ? AND current_stage != 'Deleted_Internal'"
_TAGS = "SELECT version, key, value FROM model_version_tags WHERE name = ?"
_CHAMPION = "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = 'champion'"


@dataclass(frozen=True)
class KnownVersion:
    """A version with its dense weights: the fields of a RoundRecord that the list of models needs."""

    version: int
    round: int
    skill: str | None
    champion: bool
    checkpoint: Path
    collected: str | None


def read_versions(config: SkillstackConfig) -> list[KnownVersion] | None:
    """All versions, oldest first; None where MLflow has to be asked: no SQLite, another schema, or a version made by hand."""
    uri = tracking_uri(config.state_dir)
    path = Path(uri.partition(":///")[2])
    if not uri.startswith("sqlite:///") or not path.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"file:{quote(path.absolute().as_posix())}?mode=ro", uri=True)) as database:
            return _read(database, config)
    except (sqlite3.Error, KeyError, ValueError):
        return None


def _read(database: sqlite3.Connection, config: SkillstackConfig) -> list[KnownVersion] | None:
    name, state = config.tracking.model_name, config.state_dir.expanduser().resolve()
    if database.execute(_EXPERIMENT, (config.tracking.experiment,)).fetchone() is None:
        return None
    tags: dict[int, dict[str, str]] = defaultdict(dict)
    for version, key, value in database.execute(_TAGS, (name,)):
        tags[int(version)][str(key).removeprefix(_PREFIX)] = value
    champion = database.execute(_CHAMPION, (name,)).fetchone()
    found = []
    for (version,) in database.execute(f"{_VERSIONS} ORDER BY version", (name,)):
        own = tags[int(version)]
        if "parent_run" not in own:
            return None
        is_champion = champion is not None and int(champion[0]) == int(version)
        checkpoint, collected = state / own["checkpoint"], own.get("collected") or None
        found.append(KnownVersion(int(version), int(own["round"]), own.get("skill") or None, is_champion, checkpoint, collected))
    return found
