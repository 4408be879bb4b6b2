"""A round that is killed with SIGKILL, twice, and started again, ends as if nothing had happened."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

DEADLINE_SECONDS = 600.0
POLL_SECONDS = 0.05


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Every command of a test; what a killed one left behind (Prefect's embedded server) is ended with its process group."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def start_round(workspace: Any, config: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "flows.cli.app", "round", str(workspace.drop), "--skill", "route", "--config", str(config), "--json"]
    environment = {
        name: value for name, value in os.environ.items() if name not in {"MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME"}
    }
    return subprocess.Popen(
        command, cwd=workspace.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


def finish(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    out, err = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode in (0, 2, 3), err.decode()
    answer: dict[str, Any] = json.loads(out)
    return answer


def kill_when(process: subprocess.Popen[bytes], reached: Callable[[], bool]) -> None:
    """SIGKILL the command alone (not its children) as soon as the condition holds."""
    pause, end = threading.Event(), time.monotonic() + DEADLINE_SECONDS
    while not reached():
        assert process.poll() is None, f"the round ended before it could be killed: {process.communicate()[1].decode()}"
        assert time.monotonic() < end, "the condition was never reached"
        pause.wait(POLL_SECONDS)
    process.send_signal(signal.SIGKILL)
    process.wait()


def events(state: Path) -> list[dict[str, Any]]:
    lines = [line for path in state.glob("stages/train/*/metrics.jsonl") for line in path.read_text().splitlines(keepends=True)]
    return [json.loads(line) for line in lines if line.endswith("\n")]


def test_a_round_killed_in_training_and_in_evaluation_ends_with_the_same_verdict(
    workspace: Any, started: list[subprocess.Popen[bytes]]
) -> None:
    def start(config: Path) -> subprocess.Popen[bytes]:
        started.append(start_round(workspace, config))
        return started[-1]

    state = workspace.folder / "killed"
    # The training notices after a moment that its command is gone; one of a few steps would have ended before that.
    train = {"num_epochs": 15, "save_every_steps": 4}
    config = workspace.write_config("killed.yaml", state_dir="killed", train=train)

    kill_when(start(config), lambda: sum(event["event"] == "step" for event in events(state)) >= 8)
    validated = {path: path.stat().st_mtime_ns for path in state.glob("stages/validate/*/manifest.json")}
    assert len(validated) == 1
    assert not list(state.glob("stages/train/*/manifest.json"))

    def evaluating() -> bool:
        trained = list(state.glob("stages/train/*/manifest.json"))
        return bool(trained) and len(list(state.glob("stages/evaluate/*.partial"))) > 0

    kill_when(start(config), evaluating)
    trained = {path: path.stat().st_mtime_ns for path in state.glob("stages/train/*/manifest.json")}
    assert len(trained) == 1
    assert any(event["event"] == "resumed" for event in events(state)), "training began again instead of resuming"

    outcome = finish(start(config))
    for path, written in {**validated, **trained}.items():
        assert path.stat().st_mtime_ns == written, f"{path} was made again"

    clean = workspace.write_config("clean.yaml", state_dir="clean", train=train)
    expected = finish(start(clean))
    for key in ("round", "attempt", "decision", "reasons", "lost", "suites", "version", "champion"):
        assert outcome[key] == expected[key], key
    weights = [Path(each["checkpoint"]) / "model" / "model.safetensors" for each in (outcome, expected)]
    assert weights[0].read_bytes() == weights[1].read_bytes(), "a resumed training must be the uninterrupted one to the bit"

    again = finish(start(config))
    assert again == outcome, "a round that has ended answers what it answered"
