"""The database of Prefect's embedded server, made whole or not at all: its schema is written into a temporary file that is then moved in.

Prefect migrates the file in place. Most of its migrations are one transaction; a few commit half-way, and a start that was cut short there
leaves a file that no later start can finish.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

_PREFIX = "sqlite+aiosqlite:///"
_ENDINGS = ("", "-journal", "-wal", "-shm")
_SCRATCH = ".prefect-database-"
_MIGRATE = """
import sys
from pathlib import Path
from flows.service.embedded import end_with_parent
from flows.service.embedded_database import migrate
end_with_parent()
migrate(Path(sys.argv[1]))
"""


def make_database_whole() -> None:
    """In the server's process, before the server: leave a whole database. Nothing where it is in memory or on another server."""
    from prefect.settings import get_current_settings

    address = get_current_settings().server.database.connection_url
    url = address.get_secret_value() if address is not None else ""
    if url.startswith(_PREFIX) and ":memory:" not in url and "?" not in url:
        ensure_whole(Path(url.removeprefix(_PREFIX)), write_schema)


def ensure_whole(database: Path, write: Callable[[Path], None]) -> None:
    """Make the database with `write` unless there is one with flow runs or with Prefect's newest schema; half of one is removed."""
    from filelock import FileLock

    with FileLock(database.with_name(f"{database.name}.lock")):
        if has_content(database):
            return
        for left in database.parent.glob(f"{_SCRATCH}*"):  # of a start that was killed
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=database.parent, prefix=_SCRATCH) as scratch:
            made = Path(scratch) / database.name
            write(made)
            _remove(database)  # without a flow run in it, nothing is lost
            os.replace(made, database)


def has_content(database: Path) -> bool:
    """Whether the file is to be kept: flow runs are in it (an older schema is Prefect's to upgrade), or its schema is whole."""
    if not database.is_file() or database.stat().st_size == 0:
        return False
    with closing(sqlite3.connect(f"file:{quote(str(database))}?mode=ro", uri=True)) as opened:
        tables = {name for (name,) in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "flow_run" in tables and opened.execute("SELECT 1 FROM flow_run LIMIT 1").fetchone():
            return True
        versions = opened.execute("SELECT version_num FROM alembic_version").fetchall() if "alembic_version" in tables else []
    return versions == [(newest_schema(),)]


def newest_schema() -> str | None:
    """The revision that Prefect's migrations for SQLite end with."""
    import prefect.server.database
    from alembic.script import ScriptDirectory
    from prefect.server.database.alembic_commands import alembic_config

    config = alembic_config()
    config.set_main_option("version_locations", str(Path(prefect.server.database.__file__).parent / "_migrations" / "versions" / "sqlite"))
    return ScriptDirectory.from_config(config).get_current_head()


def write_schema(database: Path) -> None:
    """Prefect's own migrations, run on this file by a process of its own: they use threads that log, and whoever calls this while logging
    is configured holds the lock of all loggers. Raises CalledProcessError where they fail."""
    subprocess.run([sys.executable, "-c", _MIGRATE, str(database)], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def migrate(database: Path) -> None:
    """The migrations, in the process that `write_schema` starts."""
    import anyio
    from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL, temporary_settings

    async def run() -> None:
        from prefect.server.database import provide_database_interface

        interface = provide_database_interface()
        await interface.create_db()
        await (await interface.engine()).dispose()

    with temporary_settings({PREFECT_API_DATABASE_CONNECTION_URL: f"{_PREFIX}{database}"}):
        anyio.run(run)
    with closing(sqlite3.connect(database)) as opened:  # what still is in the journal goes into the file that is moved
        opened.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _remove(database: Path) -> None:
    for ending in _ENDINGS:
        database.with_name(database.name + ending).unlink(missing_ok=True)
