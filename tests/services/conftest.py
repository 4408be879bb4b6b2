"""The operated service on loopback: every server real, one project deployed on it, two workers, and something that receives its messages.

The servers are those of infra/services.py. Everything a test started is ended with the session, whatever happened.
"""

from __future__ import annotations

import contextlib
import http.server
import importlib.util
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from flows.config.model import load_config
from flows.demo.materials import write_base_suites, write_drop
from flows.lineage import Lineage
from flows.workspace.workspace import open_workspace

REPOSITORY = Path(__file__).parents[2]
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
DEADLINE_SECONDS = 900.0
POLL_SECONDS = 0.2


def _services_module() -> Any:
    spec = importlib.util.spec_from_file_location("skillstack_services", REPOSITORY / "infra" / "services.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class Front:
    """A TCP front that can be closed: while it is, every connection is cut at once, as when the server behind it is away.

    It keeps its port all the while; a port that is free for a minute may be anybody's afterwards.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.removeprefix("http://").partition(":")
        self._target, self._lock, self._away = (host, int(port)), threading.Lock(), False
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = "http://{}:{}".format(*self._listener.getsockname())
        threading.Thread(target=self._accept, daemon=True).start()

    @contextlib.contextmanager
    def closed(self) -> Iterator[None]:
        self._away = True
        with self._lock:
            for connection in list(self._open):
                _close(connection)
        try:
            yield
        finally:
            self._away = False

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            if self._away:
                near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not an orderly end
                near.close()
                continue
            far = socket.create_connection(self._target)
            with self._lock:
                self._open |= {near, far}
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with self._lock:
            self._open -= {source, sink}
        _close(source)
        _close(sink)


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


class Project:
    """A user's folder on the service: skillstack.yaml, an inbox, suites; commands run as processes of their own."""

    def __init__(self, folder: Path, services: Any, name: str, **changes: Any) -> None:
        self.folder, self.environment = folder, services.environment
        user, _, password = self.environment["PREFECT_API_AUTH_STRING"].partition(":")
        self._prefect = httpx.Client(base_url=self.environment["PREFECT_API_URL"], auth=(user, password), timeout=30)
        (folder / "inbox").mkdir(parents=True)
        base = write_base_suites(folder / "suites")
        chosen = dict(list(base.suites.items())[:2])
        for path, lines in (*((suite, 120) for suite in chosen.values()), (base.calibration, 300)):
            path.write_text("".join(path.read_text().splitlines(keepends=True)[:lines]))
        suites = [
            {"name": suite, "source": str(path.relative_to(folder)), "chat": True, "max_new_tokens": 16} for suite, path in chosen.items()
        ]
        self.values: dict[str, Any] = {
            "base_model": "nano",
            "bootstrap": True,
            "calibration": str(base.calibration.relative_to(folder)),
            "contract": {"heldout_fraction": 0.25},
            "train": {"num_epochs": 2, "effective_batch_size": 32, "num_threads": 1, "learning_rate": 2e-3, "save_every_steps": 2},
            "evaluation": {"num_threads": 1, "max_batch_size": 128, "suites": suites, "skill": {"max_new_tokens": 16}},
            # Wide margins, because a few dozen items cannot show that two points were not lost; the floor still blocks. A gain that is
            # proven is enough: two short passes over the drop are not meant to make a useful skill.
            "gate": {
                "margin_general": 0.1,
                "margin_skill": 0.1,
                "floor": 0.15,
                "anchor_budget": 0.15,
                "accept_unmeasured": ["safety", "drift"],
                "min_learned": 0.0,
            },
            "tracking": {"model_name": name, "experiment": name},
            "inbox": {"deployment": "continual-round/round", "settle_seconds": 1},
            "service": {"watch_cron": "* * * * *", "timezone": "Europe/Berlin", "lease_seconds": 60, "heartbeat_timeout_seconds": 75},
        }
        self.config = self.write_config(**changes)

    def write_config(self, file: str = "skillstack.yaml", **changes: Any) -> Path:
        values = dict(self.values)
        for section, change in changes.items():
            values[section] = {**values.get(section, {}), **change} if isinstance(change, dict) else change
        path = self.folder / file
        path.write_text(yaml.safe_dump(values))
        return path

    def drop(self, skill: str, seed: int = 0, *, rows: int = 500, to: str = "drops") -> Path:
        """Written beside and moved in, as a careful sender does."""
        (self.folder / to).mkdir(exist_ok=True)
        path = write_drop(skill, self.folder / f"{skill}-{seed}.part", seed, rows=rows)
        return path.rename(self.folder / to / f"{skill}--{seed}.jsonl")

    def command(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "flows.cli.app", *arguments]
        environment = {**os.environ, **self.environment, **variables}
        return subprocess.run(line, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False)

    def answer(self, *arguments: str, **variables: str) -> dict[str, Any]:
        """A command's JSON; the test fails with its words where it exits 1."""
        done = self.command(*arguments, "--json", **variables)
        assert done.returncode != 1, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    @property
    def lineage(self) -> Lineage:
        return open_workspace(load_config(self.config)).lineage

    @property
    def stages(self) -> Path:
        return self.folder / ".skillstack" / "stages"

    # ------------------------------------------------------------------------------------------------ Prefect's API

    def get(self, path: str) -> Any:
        return self._prefect.get(path).raise_for_status().json()

    def post(self, path: str, **body: Any) -> Any:
        answer = self._prefect.post(path, json=body).raise_for_status()
        return answer.json() if answer.content else None

    def submit(self, deployment: str, config: Path | None = None, **parameters: Any) -> str:
        """Ask for a run of a deployment; gives its id."""
        found = self.get(f"/deployments/name/{deployment}")
        values = {"config": str(config or self.config), **parameters}
        return str(self.post(f"/deployments/{found['id']}/create_flow_run", parameters=values)["id"])

    def flow_run(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/flow_runs/{run}")
        return found

    def wait_for(self, condition: Callable[[], Any], what: str, seconds: float = DEADLINE_SECONDS) -> Any:
        """The first true answer of a condition; a server that is away for a moment is asked again."""
        pause, end = threading.Event(), time.monotonic() + seconds
        while True:
            with contextlib.suppress(httpx.TransportError, httpx.HTTPStatusError):
                if found := condition():
                    return found
            assert time.monotonic() < end, f"waited {seconds:.0f} s for {what}"
            pause.wait(POLL_SECONDS)

    def watch(self, on: bool) -> None:
        """Let the deployment that looks into the inbox rest, or work."""
        inbox = self.get("/deployments/name/watch/inbox")["id"]
        self.post(f"/deployments/{inbox}/{'resume' if on else 'pause'}_deployment")

    def ended(self, run: str) -> dict[str, Any]:
        """Wait for a flow run's end."""

        def state() -> dict[str, Any] | None:
            found = self.flow_run(run)
            return found if found["state_type"] in ENDED else None

        found: dict[str, Any] = self.wait_for(state, f"flow run {run} to end")
        return found

    def events(self) -> list[dict[str, Any]]:
        """What the trainers told so far."""
        lines = [line for path in self.stages.glob("train/*/metrics.jsonl") for line in path.read_text().splitlines(keepends=True)]
        return [json.loads(line) for line in lines if line.endswith("\n")]


@pytest.fixture(scope="session")
def parts() -> Any:
    """infra/services.py as a module."""
    return _services_module()


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
