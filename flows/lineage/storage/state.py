"""The state directory itself: which release wrote it, which lineage it is, where it lies, and a database that is whole.

MLflow keeps the absolute places of artifacts in its database. So `state.json` holds the folder that they were written for: where that is
another than today's, the directory was moved or copied, and the places are rewritten before MLflow opens the database. A copy gets an
identity of its own and never touches what it was copied from.
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
    """What state.json says."""

    schema_version: int = Field(SCHEMA_VERSION, description="of the state directory; a release refuses one that is newer than it knows")
    id: str = Field(description="of this lineage; a copy has its own")
    root: str = Field(description="folder that the database's absolute places are written for")
    notes: tuple[str, ...] = Field((), description="what was mended, oldest first")


def read_state(state_dir: Path) -> State | None:
    """What state.json says; None where there is none. Raises LineageError for one that cannot be read or that a newer release wrote."""
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
    """The schema version of a file whose other fields this release may not know."""
    import json

    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["schema_version"])
    except (ValueError, KeyError, TypeError):
        return None


def _too_new(path: Path, found: int) -> LineageError:
    what = f"was written by a newer skillstack (state schema {found}, this one knows {SCHEMA_VERSION})"
    return LineageError(str(path), what, "install the newer release, here and on every worker")


def prepare_state(state_dir: Path, database: Path | None) -> None:
    """Leave a directory that MLflow can open: the database whole, its places those of today. What is in order is not written to.

    `database` is the SQLite file, None where a server keeps it. Raises LineageError where the directory cannot be used.
    """
    if _ready(state_dir, database, read_state(state_dir)):
        return
    if not os.access(state_dir, os.W_OK):
        return  # it can still be read, and MLflow says where it cannot
    with _only_one(state_dir):
        state = read_state(state_dir)
        if not _ready(state_dir, database, state):
            state = _mend(state_dir, database, state)
            write_atomically(state_dir / STATE_FILE, state.model_dump_json(indent=2) + "\n")


def _mend(state_dir: Path, database: Path | None, state: State | None) -> State:
    """Make the database whole and its places today's; gives what state.json then says."""
    notes = list(state.notes) if state is not None else []
    identity = state.id if state is not None else uuid4().hex
    if database is not None and not is_whole(database):
        for kept in set_aside(database):
            notes.append(_dated(f"a database that was cut short while it was made held nothing and was set aside as {kept.name}"))
        make_database(database)
    elif database is not None and database.is_relative_to(state_dir):
        for old in _old_roots(database, state_dir):
            copied = _is_there_still(old, state)
            _rewrite_places(database, old, state_dir)
            notes.append(_dated(f"{'copied' if copied else 'moved'} from {old}"))
            identity = uuid4().hex if copied else identity
    return State(id=identity, root=str(state_dir), notes=tuple(notes))


def describe_place(state_dir: Path) -> str | None:
    """For `doctor`: that the directory was moved or copied since it was last opened, or the last thing that was mended. Writes nothing."""
    state = read_state(state_dir)
    if state is None:
        return None
    if state.root != str(state_dir.resolve()):
        how = "copied" if _is_there_still(Path(state.root), state) else "moved"
        return f"was {how} from {state.root}; the next command that opens the lineage rewrites its places"
    return state.notes[-1] if state.notes else None


def _ready(state_dir: Path, database: Path | None, state: State | None) -> bool:
    there = database is None or (database.is_file() and database.stat().st_size > 0)
    return state is not None and there and state.root == str(state_dir)


def _is_there_still(old: Path, state: State | None) -> bool:
    """Whether the folder that a directory came from still holds the same lineage: then this one is a copy."""
    try:
        there = read_state(old)
        return there.id == state.id if there is not None and state is not None else (old / "mlflow.db").is_file()
    except (LineageError, OSError):
        return False


def _old_roots(database: Path, state_dir: Path) -> list[Path]:
    """State directories, other than this one, that the database's experiments keep their artifacts in."""
    with closing(sqlite3.connect(f"file:{quote(str(database))}?mode=ro", uri=True)) as opened:
        rows = opened.execute("SELECT DISTINCT artifact_location FROM experiments WHERE artifact_location LIKE 'file://%/artifacts'")
        roots = [Path(unquote(urlsplit(place).path)).parent for (place,) in rows]
    return [root for root in roots if root != state_dir]


def _rewrite_places(database: Path, old: Path, new: Path) -> None:
    """One transaction: every place below the old folder is put below the new one."""
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
