"""Create MLflow's SQLite file completely or not at all: the schema is written to a temporary file, which is then renamed."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from data_contracts.errors import LineageError
from flows.machine.disk import require_room

ROOM_BYTES = 32 << 20
"""Free space that is required to create a database: on a full disk MLflow itself retries for minutes."""

_JOURNALS = ("-journal", "-wal", "-shm")
_CONTENT = ("runs", "registered_models", "logged_models")


def is_whole(database: Path) -> bool:
    """Whether the file has MLflow's complete schema, or an older one with content, which MLflow upgrades itself.

    False for a file that is missing, empty, or incomplete after an interrupted start. Raises LineageError for a damaged one.
    """
    if not database.is_file() or database.stat().st_size == 0:
        return False
    from mlflow.store.db.utils import _get_latest_schema_revision

    try:
        with closing(sqlite3.connect(f"file:{quote(str(database))}?mode=ro", uri=True)) as opened:
            tables = {name for (name,) in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            versions = [row[0] for row in opened.execute("SELECT version_num FROM alembic_version")] if "alembic_version" in tables else []
            if versions == [_get_latest_schema_revision()]:
                return True
            return any(opened.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone() for name in _CONTENT if name in tables)
    except sqlite3.DatabaseError as error:
        raise LineageError(str(database), str(error), "restore it from backup") from error


def set_aside(database: Path) -> list[Path]:
    """Rename an incomplete file; returns its new path, or nothing if there was no file."""
    if not database.is_file() or database.stat().st_size == 0:
        return []
    number = 1
    while (target := database.with_name(f"{database.name}.half-made-{number}")).exists():
        number += 1
    os.replace(database, target)
    for ending in _JOURNALS:
        database.with_name(database.name + ending).unlink(missing_ok=True)
    return [target]


def make_database(database: Path) -> None:
    """Create MLflow's schema in a temporary file and rename it; takes about 2 s. Raises SkillstackError if the disk is full."""
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine

    require_room(database.parent, ROOM_BYTES)
    temporary = database.with_name(f".{database.name}.partial")
    for ending in ("", *_JOURNALS):
        temporary.with_name(temporary.name + ending).unlink(missing_ok=True)
    engine = create_sqlalchemy_engine(f"sqlite:///{temporary.as_posix()}")
    try:
        _initialize_tables(engine)
    finally:
        engine.dispose()
    os.replace(temporary, database)
