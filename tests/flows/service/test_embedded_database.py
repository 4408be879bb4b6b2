"""A first start of Prefect's embedded server that is cut short leaves no database that a later one cannot use."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from flows.service.embedded_database import ensure_whole, has_content, newest_schema, write_schema


def tables(database: Path) -> set[str]:
    with closing(sqlite3.connect(database)) as opened:
        return {name for (name,) in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def half_made(database: Path, *, runs: int = 0) -> Path:
    """As Prefect leaves it where it is killed between the two halves of the migration that follows this revision."""
    with closing(sqlite3.connect(database)) as opened, opened:
        opened.execute("CREATE TABLE alembic_version (version_num TEXT)")
        opened.execute("INSERT INTO alembic_version VALUES ('fe77ad0dda06')")
        opened.execute("CREATE TABLE flow_run (id TEXT)")
        opened.executemany("INSERT INTO flow_run VALUES (?)", [(str(number),) for number in range(runs)])
        opened.execute("CREATE TABLE flow_run_state (id TEXT, has_data BOOLEAN)")
    return database


def test_a_half_made_database_is_made_again_and_a_whole_one_is_left(tmp_path: Path) -> None:
    database = half_made(tmp_path / "prefect.db")
    ensure_whole(database, write_schema)
    assert {"flow_run", "work_pool", "alembic_version"} <= tables(database)
    with closing(sqlite3.connect(database)) as opened:
        assert opened.execute("SELECT version_num FROM alembic_version").fetchall() == [(newest_schema(),)]
        assert opened.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    before = database.stat()
    ensure_whole(database, lambda _: pytest.fail("a whole database was made again"))
    assert database.stat().st_ino == before.st_ino
    assert {path.name for path in tmp_path.iterdir()} <= {"prefect.db", "prefect.db.lock", "prefect.db-wal", "prefect.db-shm"}


def test_what_holds_flow_runs_is_prefects_to_upgrade(tmp_path: Path) -> None:
    assert has_content(half_made(tmp_path / "old.db", runs=1))
    assert not has_content(half_made(tmp_path / "half.db"))
    assert not has_content(tmp_path / "absent.db")


def test_a_start_that_fails_half_way_leaves_nothing_in_the_place(tmp_path: Path) -> None:
    def fails(path: Path) -> None:
        half_made(path)
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        ensure_whole(tmp_path / "prefect.db", fails)
    assert not (tmp_path / "prefect.db").exists()
    ensure_whole(tmp_path / "prefect.db", lambda path: half_made(path, runs=1) and None)
    assert has_content(tmp_path / "prefect.db")


_KILLED = """
import os, signal, sqlite3, sys
from pathlib import Path
from flows.service import embedded_database
def killed(path):
    sqlite3.connect(path).execute("CREATE TABLE half (made TEXT)")
    os.kill(os.getpid(), signal.SIGKILL)
embedded_database.write_schema = killed
embedded_database.make_database_whole()
"""


def test_the_servers_own_settings_say_which_file_and_a_kill_leaves_none(tmp_path: Path) -> None:
    environment = os.environ | {"PREFECT_HOME": str(tmp_path)}
    environment.pop("PREFECT_API_DATABASE_CONNECTION_URL", None)
    done = subprocess.run([sys.executable, "-c", _KILLED], env=environment, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(list(tmp_path.glob(".prefect-database-*/prefect.db"))) == 1
    assert not (tmp_path / "prefect.db").exists()
    ensure_whole(tmp_path / "prefect.db", lambda path: half_made(path, runs=1) and None)
    assert not list(tmp_path.glob(".prefect-database-*"))


_CONFIGURED = """
import json, logging.config, os, sys
from pathlib import Path
from flows.machine.environment import SERVER_LOG
os.environ["SKILLSTACK_SERVER_OWNER"] = str(os.getppid())
logging.config.dictConfig(json.loads(SERVER_LOG.read_text()))
"""


def test_the_embedded_servers_logging_configuration_makes_the_database(tmp_path: Path) -> None:
    """As uvicorn loads it before the server: under the lock of all loggers."""
    environment = os.environ | {"PREFECT_HOME": str(tmp_path)}
    environment.pop("PREFECT_API_DATABASE_CONNECTION_URL", None)
    subprocess.run([sys.executable, "-c", _CONFIGURED], env=environment, cwd=tmp_path, check=True, timeout=300)
    assert has_content(tmp_path / "prefect.db")
    assert "work_pool" in tables(tmp_path / "prefect.db")
