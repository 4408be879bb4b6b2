"""A long round on one worker that is started as docs/guides/service.md says, and by nothing else: it must end, not be marked Crashed.

Prefect sends a heartbeat every 180 s unless it is given another interval, and the automation waits less. The round is made long by
stopping its training process (SIGSTOP) until four minutes have passed, so that the machine's speed does not matter; the flow run that
must send the heartbeats goes on. Beside it runs a flow of another team, which sends a heartbeat at Prefect's own interval and must be
left alone.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.services

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "service.md"
LONG_SECONDS = 240.0
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
DEADLINE_SECONDS = 3600.0  # of a busy machine
THEIR_FLOW = """
import sys
from prefect import flow

@flow(name="of-another-team")
def theirs():
    print("began", flush=True)
    sys.stdin.read()  # until the test is done

theirs()
"""


def worker_command(pool: str) -> list[str]:
    """The command of the guide, word for word."""
    found = re.search(rf"`(prefect worker start [^`]*--pool {pool})`", GUIDE.read_text(encoding="utf-8"))
    assert found, "the guide no longer says how a worker is started"
    return found.group(1).split()


@pytest.fixture
def project(parts: Any, project_type: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A project on a Prefect server of its own, deployed with the defaults of `service`; MLflow is SQLite in its state directory."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    password = secrets.token_urlsafe(18)
    server, url = parts.prefect_server(tmp_path, None, password)
    environment = {"PREFECT_API_URL": url, "PREFECT_API_AUTH_STRING": f"admin:{password}"}
    try:
        made = project_type(tmp_path / "project", SimpleNamespace(environment=environment), "bare", service={"watch": False})
        # Ten passes leave the test time to stop the training before it ends by itself.
        made.write_config(train={"num_epochs": 10, "save_every_steps": 0}, service={"watch": False, "heartbeat_timeout_seconds": 120})
        made.answer("deploy")
        yield made
    finally:
        server.stop()


def plain_environment(project: Any) -> dict[str, str]:
    """What a shell has after the exports: no setting of Prefect's but its address and password."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_", "SKILLSTACK_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{plain['PATH']}"
    return plain | project.environment | {"PATH": path, "PREFECT_HOME": str(project.folder / "home"), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def bare_worker(project: Any) -> Iterator[subprocess.Popen[bytes]]:
    with (project.folder / "worker.log").open("ab") as log:
        worker = subprocess.Popen(worker_command("gpu"), cwd=project.folder, env=plain_environment(project), stdout=log, stderr=log)
    yield worker
    worker.terminate()
    try:
        worker.wait(timeout=60)
    except subprocess.TimeoutExpired:  # Prefect's own way of ending is not what is tested here
        worker.kill()
        worker.wait()


@pytest.fixture
def their_run(project: Any) -> Iterator[str]:
    """A flow run of somebody else on the same server; gives its id."""
    command = [sys.executable, "-c", THEIR_FLOW]
    with subprocess.Popen(command, env=plain_environment(project), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"began\n"
        yield project.post("/flow_runs/filter", flows={"name": {"any_": ["of-another-team"]}})[0]["id"]
        process.communicate()


def training_processes(project: Any) -> list[int]:
    """The processes of the engine that train for this project."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            if b"osft_engine" in command and str(project.stages).encode() in command:
                found.append(int(entry.name))
    return found


def age(run: dict[str, Any]) -> float:
    """Seconds since a flow run began."""
    return (datetime.now(UTC) - datetime.fromisoformat(run["start_time"])).total_seconds()


def test_a_round_of_more_than_four_minutes_on_a_bare_worker_ends_and_other_flows_are_left_alone(
    project: Any, bare_worker: subprocess.Popen[bytes], their_run: str
) -> None:
    asked = project.submit("continual-round/round", drop=str(project.drop("route")), skill="route")
    trainers = project.wait_for(lambda: project.events() and training_processes(project), "the training to begin", DEADLINE_SECONDS)
    for each in trainers:
        os.kill(each, signal.SIGSTOP)
    project.wait_for(lambda: age(project.flow_run(asked)) > LONG_SECONDS, "four minutes to pass", DEADLINE_SECONDS)
    for each in trainers:
        os.kill(each, signal.SIGCONT)
    project.wait_for(lambda: project.flow_run(asked)["state_type"] in ENDED, "the round to end", DEADLINE_SECONDS)
    run = project.flow_run(asked)
    assert run["state_type"] == "COMPLETED", run["state"]
    assert run["run_count"] == 1
    lasted = datetime.fromisoformat(run["end_time"]) - datetime.fromisoformat(run["start_time"])
    assert lasted.total_seconds() > LONG_SECONDS
    states = [each["name"] for each in project.get(f"/flow_run_states/?flow_run_id={run['id']}")]
    assert "Crashed" not in states
    assert project.flow_run(their_run)["state_name"] == "Running"
    assert bare_worker.poll() is None


def test_the_pages_that_links_lead_to_are_served(project: Any) -> None:
    root = project.environment["PREFECT_API_URL"].removesuffix("/api")
    for path in ("/", "/runs/flow-run/00000000-0000-0000-0000-000000000000"):
        page = httpx.get(root + path, follow_redirects=True, headers={"Accept": "text/html"})  # as a browser asks
        assert page.status_code == 200, path
        assert "<html" in page.text.lower(), path
