"""The operated service on loopback: every server real, one project deployed on it, two workers, and something that receives its messages.

The servers are those of infra/services.py. Everything a test started is ended with the session, whatever happened.
"""

from __future__ import annotations

import contextlib
import http.server
import importlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .front import Front
from .project import Project

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def parts() -> Any:
    """infra/services.py as a module, as `python infra/services.py` finds it: its folder is on the path."""
    sys.path.insert(0, str(REPOSITORY / "infra"))
    return importlib.import_module("services")


@pytest.fixture(scope="session")
def project_type() -> type[Project]:
    """For tests that start servers of their own."""
    return Project


@pytest.fixture(scope="session")
def fronts() -> list[Front]:
    """Holds the front of the artifact store once it is up."""
    return []


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory, parts: Any, fronts: list[Front]) -> Iterator[Any]:
    """PostgreSQL, S3-type store behind a front, MLflow with authentication, Prefect. This process is their client too."""

    def s3_front(url: str) -> str:
        fronts.append(Front(url))
        return fronts[0].url

    with pytest.MonkeyPatch.context() as patch, parts.running(tmp_path_factory.mktemp("services"), s3_front=s3_front) as running:
        patch.delenv("PREFECT_API_URL", raising=False)
        for name, value in running.environment.items():
            if name.startswith("MLFLOW"):
                patch.setenv(name, value)
        yield running


@pytest.fixture(scope="session")
def artifact_front(services: Any, fronts: list[Front]) -> Front:
    return fronts[0]


@pytest.fixture(scope="session")
def messages() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A webhook that people would have in their chat: its address, and what came in."""
    received: list[dict[str, Any]] = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the test prints what it wants to."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/secret-path", received
    server.shutdown()


@pytest.fixture(scope="session")
def new_project(services: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Project]:
    def make(name: str, **changes: Any) -> Project:
        return Project(tmp_path_factory.mktemp(name), services, name, **changes)

    return make


@pytest.fixture(scope="session")
def deployed(new_project: Callable[..., Project], messages: tuple[str, list[dict[str, Any]]]) -> Project:
    """The project that the deployments name; the others give their own config to each run."""
    project = new_project("month")
    project.answer("deploy", SKILLSTACK_WEBHOOK_URL=messages[0])
    project.watch(False)  # a watcher a minute would slow the tests that need none
    return project


@pytest.fixture(scope="session")
def workers(deployed: Project, parts: Any, services: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """One process worker a pool."""
    folder = tmp_path_factory.mktemp("workers")
    environment = {**services.environment, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    found = {pool: parts.worker(folder, pool, f"{pool}-1", environment) for pool in ("gpu", "cpu")}
    try:
        for each in found.values():
            each.start()
        yield found
    finally:
        for each in found.values():
            each.stop()
        for pid in flow_run_processes(services.environment["PREFECT_API_URL"]):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)


def flow_run_processes(api: str, run: str | None = None) -> list[int]:
    """Process ids of the flow runs of this test's server (they are sessions of their own), or of one of them."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            variables = (entry / "environ").read_bytes().split(b"\0") if entry.name.isdigit() else []
            mine = f"PREFECT_API_URL={api}".encode() in variables
            which = next((each.decode().partition("=")[2] for each in variables if each.startswith(b"PREFECT__FLOW_RUN_ID=")), None)
            if mine and which and run in (None, which) and os.getpgid(int(entry.name)) == int(entry.name):
                found.append(int(entry.name))
    return found


@pytest.fixture(scope="session")
def processes_of(services: Any) -> Callable[[str], list[int]]:
    def find(run: str) -> list[int]:
        return flow_run_processes(services.environment["PREFECT_API_URL"], run)

    return find
