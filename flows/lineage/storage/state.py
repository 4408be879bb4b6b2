"""The state directory: the release that wrote it, the id of the lineage, its folder, and a complete database.

MLflow stores absolute paths of artifacts in its database. `state.json` records the folder for which they were written: if the directory was
moved or copied since, the paths are rewritten before MLflow opens the database. A copy gets an id of its own and never writes to the
original.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit
from uuid import uuid4

from pydantic import Field, ValidationError

from data_contracts.errors import LineageError
from data_contracts.files import write_atomically
from data_contracts.manifests import Record
from flows.lineage.storage.database import is_whole, make_database, set_aside

SCHEMA_VERSION = 1
STATE_FILE = "state.json"
_PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)
_RESTORE = "restore it from backup"


class State(Record):
    """The content of state.json."""

    schema_version: int = Field(SCHEMA_VERSION, description="format of the state directory; a release refuses a newer one")
    id: str = Field(description="id of this lineage; a copy has its own")
    root: str = Field(description="folder for which the absolute paths in the database were written")
    notes: tuple[str, ...] = Field((), description="repairs, oldest first")


def read_state(state_dir: Path) -> State | None:
    """Read state.json; None if there is none. Raises LineageError if it cannot be read or was written by a newer release."""
    path = state_dir / STATE_FILE
    try:
        state = State.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        newer = _schema_of(path)
        if newer is not None and newer > SCHEMA_VERSION:
            raise _too_new(path, newer) from error
        raise LineageError(str(path), "is not readable", _RESTORE) from error
    if state.schema_version > SCHEMA_VERSION:
        raise _too_new(path, state.schema_version)
    return state


def _schema_of(path: Path) -> int | None:
    """The schema version of a file that may have fields of a newer release."""
    import json

    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["schema_version"])
    except (ValueError, KeyError, TypeError):
        return None


def _too_new(path: Path, found: int) -> LineageError:
    what = f"was written by a newer skillstack (state schema {found}, this one knows {SCHEMA_VERSION})"
    return LineageError(str(path), what, "install the newer release, here and on every worker")


def prepare_state(state_dir: Path, database: Path | None) -> None:
    """Make the directory usable for MLflow: a complete database with the present paths. If nothing is wrong, nothing is written.

    `database` is the SQLite file, None with a server. Raises LineageError if the directory cannot be used.
    """
    if _ready(state_dir, database, read_state(state_dir)):
        return
    if not os.access(state_dir, os.W_OK):
        return  # it may still be readable; if not, MLflow reports it
    with _only_one(state_dir):
        state = read_state(state_dir)
        if not _ready(state_dir, database, state):
            state = _repair(state_dir, database, state)
            write_atomically(state_dir / STATE_FILE, state.model_dump_json(indent=2) + "\n")


def _repair(state_dir: Path, database: Path | None, state: State | None) -> State:
    """Create the database if it is incomplete, rewrite its paths, and return the new content of state.json."""
    notes = list(state.notes) if state is not None else []
    identity = state.id if state is not None else uuid4().hex
    if database is not None and not is_whole(database):
        for kept in set_aside(database):
            notes.append(_dated(f"an incomplete database without content, from an interrupted first start, was renamed to {kept.name}"))
        make_database(database)
    elif database is not None and database.is_relative_to(state_dir):
        for old in _old_roots(database, state_dir):
            copied = _is_there_still(old, state)
            _rewrite_places(database, old, state_dir)
            notes.append(_dated(f"{'copied' if copied else 'moved'} from {old}"))
            identity = uuid4().hex if copied else identity
    return State(id=identity, root=str(state_dir), notes=tuple(notes))


def describe_place(state_dir: Path) -> str | None:
    """For `doctor`: whether the directory was moved or copied since it was last opened, else the last repair. Writes nothing."""
    state = read_state(state_dir)
    if state is None:
        return None
    if state.root != str(state_dir.resolve()):
        how = "copied" if _is_there_still(Path(state.root), state) else "moved"
        return f"was {how} from {state.root}; the next command that opens the lineage rewrites its paths"
    return state.notes[-1] if state.notes else None


def _ready(state_dir: Path, database: Path | None, state: State | None) -> bool:
    there = database is None or (database.is_file() and database.stat().st_size > 0)
    return state is not None and there and state.root == str(state_dir)


def _is_there_still(old: Path, state: State | None) -> bool:
    """Whether the old folder still holds the same lineage: then this directory is a copy."""
    try:
        there = read_state(old)
        return there.id == state.id if there is not None and state is not None else (old / "mlflow.db").is_file()
    except (LineageError, OSError):
        return False


def _old_roots(database: Path, state_dir: Path) -> list[Path]:
    """Other state directories in the artifact locations of the database's experiments."""
    with closing(sqlite3.connect(f"file:{quote(str(database))}?mode=ro", uri=True)) as opened:
        rows = opened.execute("SELECT DISTINCT artifact_location FROM experiments WHERE artifact_location LIKE 'file://%/artifacts'")
        roots = [Path(unquote(urlsplit(place).path)).parent for (place,) in rows]
    return [root for root in roots if root != state_dir]


def _rewrite_places(database: Path, old: Path, new: Path) -> None:
    """In one transaction, replace the old folder by the new one in all paths."""
    before, after = (folder / "artifacts" for folder in (old, new))
    with closing(sqlite3.connect(database, timeout=60)) as opened, opened:
        for table, column in _PLACES:
            opened.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                (after.as_uri(), len(before.as_uri()) + 1, before.as_uri(), len(before.as_uri()) + 1, before.as_uri() + "/"),
            )


def _dated(what: str) -> str:
    return f"{datetime.now(UTC):%Y-%m-%d}: {what}"


@contextmanager
def _only_one(state_dir: Path) -> Iterator[None]:
    from filelock import FileLock

    with FileLock(state_dir / "state.lock"):
        yield
