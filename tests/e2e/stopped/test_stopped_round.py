"""SIGTERM to a round in training: the step is saved, no process stays behind, and the same command ends with the same weights."""

from __future__ import annotations

import json
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

pytestmark = pytest.mark.slow
DEADLINE_SECONDS = 600.0
SAVE_SECONDS, FAIR_STEP_SECONDS = 20.0, 0.1
"""What the trainer promises where a step takes no longer than this; on a loaded machine the bound grows in proportion."""
RESUMABLE = 75


def start(workspace: Any, config: Path) -> subprocess.Popen[str]:
    hidden = {"MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME", "UVICORN_LOG_CONFIG", "SKILLSTACK_SERVER_OWNER"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden} | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "flows.cli.app", "round", str(workspace.drop), "--skill", "route", "--config", str(config), "--json"]
    return subprocess.Popen(
        command, cwd=workspace.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def steps(state: Path) -> list[dict[str, Any]]:
    lines = [line for path in state.glob("stages/train/*/metrics.jsonl") for line in path.read_text().splitlines(keepends=True)]
    return [event for event in (json.loads(line) for line in lines if line.endswith("\n")) if event["event"] in ("step", "resumed")]


def processes_in(folder: Path) -> dict[int, str]:
    """What still runs of a round: by a command line that names its folder (the trainer's sessions are their own)."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if entry.name.isdigit() and int(entry.name) != os.getpid() and str(folder) in line:
                found[int(entry.name)] = line
        except OSError:
            continue
    return found


def wait_for(condition: Callable[[], bool], seconds: float, what: Callable[[], str]) -> None:
    pause, end = threading.Event(), time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what()
        pause.wait(0.05)


@pytest.mark.parametrize("launch", [{"kind": "local"}, {"kind": "torchrun", "processes": 2}], ids=["local", "torchrun"])
def test_a_round_that_is_told_to_stop_saves_its_step_and_goes_on_from_it(workspace: Any, launch: dict[str, Any]) -> None:
    train = {"num_epochs": 4, "effective_batch_size": 4, "save_every_steps": 0, "save_every_seconds": 3600.0}
    state, config = workspace.folder / "stopped", workspace.write_config("stopped.yaml", state_dir="stopped", train=train, launch=launch)
    process = start(workspace, config)

    def training() -> bool:
        assert process.poll() is None, process.communicate()
        return len(steps(state)) >= 3

    wait_for(training, DEADLINE_SECONDS, lambda: "it never came to train")
    clock = [float(event["seconds"]) for event in steps(state)]
    limit = SAVE_SECONDS * max(1.0, (clock[-1] - clock[0]) / (len(clock) - 1) / FAIR_STEP_SECONDS)
    asked = time.time()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=DEADLINE_SECONDS)
    saved = next(iter(state.glob("stages/train/*/.resume/state.safetensors")))
    assert 0 < saved.stat().st_mtime - asked < limit
    wait_for(lambda: not processes_in(workspace.folder), limit, lambda: f"stayed behind: {processes_in(workspace.folder)}")
    assert process.returncode == RESUMABLE, err
    assert json.loads(out)["error"]["what"] == "was stopped by SIGTERM"
    reached = steps(state)[-1]["step"]

    outcome = finish(start(workspace, config))
    resumed = [event["step"] for event in steps(state) if event["event"] == "resumed"]
    assert resumed == [reached], "a step was lost, or the training began again"
    clean = workspace.write_config("clean.yaml", state_dir="clean", train=train, launch=launch)
    expected = finish(start(workspace, clean))
    assert (outcome["decision"], outcome["suites"], outcome["version"]) == (expected["decision"], expected["suites"], expected["version"])
    weights = [Path(each["checkpoint"]) / "model" / "model.safetensors" for each in (outcome, expected)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode in (0, 2, 3), out + err
    answer: dict[str, Any] = json.loads(out)
    return answer
