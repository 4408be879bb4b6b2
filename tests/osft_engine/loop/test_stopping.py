"""SIGTERM and SIGINT in a training: the state of the step is saved and the run goes on from it, bit for bit as without the stop."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from osft_engine.loop.resume import LOCK_NAME, only_trainer
from osft_engine.loop.stopping import STOPPED, StopSignal
from osft_engine.run import TrainRun
from osft_engine.train import train_candidate

MakeRun = Callable[..., TrainRun]
# 3 steps an epoch, 60 a second were seen: seconds of training are left when the test has seen its first steps.
SETTINGS: dict[str, Any] = {"num_epochs": 60, "save_every_seconds": 3600.0, "save_every_steps": 0, "num_threads": 1}
DEADLINE_SECONDS = 300.0
SAVE_SECONDS = 20.0
"""What the trainer promises for its step and its state."""
FAIR_STEP_SECONDS = 0.1
"""The promise holds as it is where a step takes no longer; a free machine takes a sixth. On one that is loaded beyond this, everything
takes longer in the same proportion, and so does the bound: 33 s were seen at a load of 30 on two cores."""


def start(run: TrainRun, *arguments: str) -> subprocess.Popen[bytes]:
    run.out_dir.mkdir(parents=True, exist_ok=True)
    order = run.out_dir / "run.json"
    order.write_text(run.model_dump_json())
    return subprocess.Popen([sys.executable, "-m", "osft_engine", str(order), *arguments], stderr=subprocess.PIPE)


def steps(run: TrainRun) -> list[int]:
    path = run.out_dir / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    events = [json.loads(line) for line in lines if line.endswith("\n")]
    return [event["step"] for event in events if event["event"] == "step"]


def seconds_per_step(run: TrainRun) -> float:
    """Of the steps so far, by the trainer's own clock, less the first one, which warms up."""
    events = [json.loads(line) for line in (run.out_dir / "metrics.jsonl").read_text().splitlines(keepends=True) if line.endswith("\n")]
    clock = [float(event["seconds"]) for event in events if event["event"] == "step"]
    return (clock[-1] - clock[0]) / (len(clock) - 1)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    pause, end = threading.Event(), time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert process.poll() is None, "it ended before it was asked to"
        assert time.monotonic() < end
        pause.wait(0.02)


def stop(run: TrainRun, sign: signal.Signals) -> int:
    """Start a training, ask it to stop when it has made three steps, and check how it ends; gives the step that it reached."""
    process = start(run)
    wait_for(lambda: len(steps(run)) >= 3, process)
    asked, limit = time.time(), SAVE_SECONDS * max(1.0, seconds_per_step(run) / FAIR_STEP_SECONDS)
    process.send_signal(sign)
    _, said = process.communicate(timeout=DEADLINE_SECONDS)
    assert (run.out_dir / ".resume" / "state.safetensors").stat().st_mtime - asked < limit
    assert process.returncode == STOPPED
    reached = steps(run)[-1]
    assert f"error: step {reached} of 180: was stopped by a signal and has saved its state" in said.decode().splitlines()[-1]
    return reached


def test_a_stopped_training_saves_its_step_soon_and_continues_bit_for_bit(make_run: MakeRun) -> None:
    run = make_run("stopped", **SETTINGS)
    reached = stop(run, signal.SIGTERM)
    events: list[dict[str, Any]] = []
    train_candidate(run, on_event=events.append)
    assert next(event["step"] for event in events if event["event"] == "resumed") == reached, "a step was lost"
    whole = make_run("whole", **SETTINGS)
    train_candidate(whole)
    for name in ("model/model.safetensors", "update.safetensors"):
        assert (run.out_dir / name).read_bytes() == (whole.out_dir / name).read_bytes(), name
    assert not (run.out_dir / LOCK_NAME).exists()


def test_an_interrupted_training_saves_its_step_too(make_run: MakeRun) -> None:
    """Ctrl+C goes the way of SIGTERM, from which the test before continues: here only the step that is saved is asked."""
    run = make_run("stopped", **SETTINGS)
    reached = stop(run, signal.SIGINT)

    resumed: list[int] = []

    def seen(event: dict[str, Any]) -> None:
        if event["event"] == "resumed":
            resumed.append(event["step"])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_candidate(run, on_event=seen)
    assert resumed == [reached]


def test_a_trainer_without_its_parent_saves_its_step_too(make_run: MakeRun) -> None:
    run = make_run(**{**SETTINGS, "num_epochs": 2000})  # it is stopped, and never continued here
    run.out_dir.mkdir(parents=True, exist_ok=True)
    order = run.out_dir / "run.json"
    order.write_text(run.model_dump_json())
    script = (
        "import os, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-m', 'osft_engine', sys.argv[1], '--parent', str(os.getpid())])\n"
        "print(child.pid, flush=True)\nchild.wait()"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(order)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline()
    wait_for(lambda: len(steps(run)) >= 3, parent)  # type: ignore[arg-type]
    parent.kill()
    parent.wait()
    with only_trainer(run.out_dir):  # as its successor waits: until the one that was left behind has saved and ended
        assert (run.out_dir / ".resume" / "state.safetensors").is_file()


def test_outside_of_a_step_the_process_ends_at_once_and_says_that_it_can_go_on() -> None:
    stop = StopSignal()
    with pytest.raises(SystemExit) as ended:
        stop._take(signal.SIGTERM, None)
    assert ended.value.code == STOPPED
    with stop.at_a_step():
        stop._take(signal.SIGTERM, None)
    assert stop.received
