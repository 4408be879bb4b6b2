"""Prefect's embedded server does not stay behind: it ends with the round that it serves, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

DEADLINE_SECONDS = 300.0
END_SECONDS = 30.0


def processes_of(session: int) -> dict[int, str]:
    """Process id -> command line, of what still runs in a session."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            state, _, _, of_session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(of_session) == session and state != "Z":
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, ValueError):
            continue
    return found


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    pause, end = threading.Event(), time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        pause.wait(0.05)


@pytest.mark.parametrize(("sign", "running"), [(signal.SIGKILL, False), (signal.SIGKILL, True), (signal.SIGTERM, True)])
def test_no_server_stays_behind_a_killed_round(workspace: Any, sign: signal.Signals, running: bool) -> None:
    """Killed as soon as its server is a process, and while the flow runs on it."""
    hidden = {"MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME", "UVICORN_LOG_CONFIG", "SKILLSTACK_SERVER_OWNER"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    config = workspace.write_config()
    command = [sys.executable, "-m", "flows.cli.app", "round", str(workspace.drop), "--skill", "route", "--config", str(config), "--json"]
    with subprocess.Popen(command, cwd=workspace.folder, env=environment, stdout=subprocess.PIPE, start_new_session=True) as process:

        def reached() -> bool:
            assert process.poll() is None, "the round ended before it was killed"
            validated = list((workspace.folder / ".skillstack").glob("stages/validate/*"))
            return bool(validated) if running else any("uvicorn" in line for line in processes_of(process.pid).values())

        wait_for(reached, DEADLINE_SECONDS, "the round never came so far")
        servers = [pid for pid, line in processes_of(process.pid).items() if "uvicorn" in line]
        assert servers
        process.send_signal(sign)
    wait_for(lambda: not processes_of(process.pid), END_SECONDS, f"stayed behind: {processes_of(process.pid)}")
