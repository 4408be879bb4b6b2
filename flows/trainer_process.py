"""The engine as a process of its own: `python -m osft_engine run.json`, its events relayed while it runs.

A process keeps the trainer's memory and its failures apart from the flow, and is what `torchrun` or a Kubernetes job starts elsewhere.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from data_contracts.errors import TrainingError
from data_contracts.manifests import write_atomically
from osft_engine.run import TrainRun

POLL_SECONDS = 0.25
LOG_NAME = "train.log"

Event = dict[str, Any]


def run_trainer(run: TrainRun, on_event: Callable[[Event], None]) -> None:
    """Run one training to its end. Raises TrainingError with the engine's own last line where it fails.

    The child stays in this process group, so a cancel that signals the group ends it, and it watches this process, so that it
    does not go on training for a flow that was killed.
    """
    run.out_dir.mkdir(parents=True, exist_ok=True)
    run_file = run.out_dir / "run.json"
    write_atomically(run_file, run.model_dump_json(indent=2) + "\n")
    command = [sys.executable, "-m", "osft_engine", str(run_file), "--parent", str(os.getpid())]
    log = run.out_dir / LOG_NAME
    with log.open("ab") as stream:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
    try:
        for event in _follow(run.out_dir / "metrics.jsonl", process):
            on_event(event)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    if process.returncode != 0:
        raise TrainingError(f"training of {run.skill!r}", _last_line(log, process.returncode), f"the whole log is {log}")


def _follow(path: Path, process: subprocess.Popen[bytes]) -> Iterator[Event]:
    """Yield the events that are appended to `path` until the process ends; a half-written last line waits for its rest."""
    position = path.stat().st_size if path.exists() else 0  # a resumed run appends to what an earlier one told already
    ended = False
    while not ended:
        try:
            process.wait(timeout=POLL_SECONDS)
            ended = True
        except subprocess.TimeoutExpired:
            pass
        if not path.exists():
            continue
        with path.open("rb") as stream:
            position = min(position, os.fstat(stream.fileno()).st_size)  # resuming drops the lines after the last saved state
            stream.seek(position)
            for line in stream:
                if line.endswith(b"\n"):
                    position += len(line)
                    yield json.loads(line)


def _last_line(log: Path, status: int) -> str:
    """The engine's one-line error, or how the process ended."""
    if status < 0:
        return f"the trainer was ended by signal {-status}"
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else f"the trainer ended with status {status} and said nothing"
