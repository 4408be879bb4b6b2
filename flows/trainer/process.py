"""Run the engine in separate processes: relay its events, detect a hang, and leave no process behind.

Separate processes keep the engine's memory and failures out of the flow; launchers.py decides how they are started.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from data_contracts.errors import TrainingError
from data_contracts.files import write_atomically
from data_contracts.logs.lines import for_child, reason_of
from flows.config.launch import LaunchConfig
from flows.config.model import TrainerConfig
from flows.machine import groups
from flows.machine.retrying import TrainerHungError
from flows.trainer.launchers import trainer_command
from osft_engine.loop.stopping import STOPPED, TrainingStoppedError
from osft_engine.run import TrainRun

POLL_SECONDS = 0.25
LOOK_SECONDS = 30.0
"""Interval between two checks of a training's folder for changes."""
LOG_NAME = "train.log"

Event = dict[str, Any]


def run_trainer(run: TrainRun, on_event: Callable[[Event], None], launch: LaunchConfig, watch: TrainerConfig) -> None:
    """Run one training to its end. Raises TrainingError with the engine's reason if it fails, TrainerHungError if it hangs.

    The training has a process group of its own. However this call ends (an error, a cancelled flow run, Ctrl-C), the group is stopped, with
    a launcher's workers. If this process is killed, the training notices it by itself (`--parent`).
    """
    run.out_dir.mkdir(parents=True, exist_ok=True)
    run_file = run.out_dir / "run.json"
    write_atomically(run_file, run.model_dump_json(indent=2) + "\n")
    command = trainer_command(launch, run_file, parent=os.getpid())
    log = run.out_dir / LOG_NAME
    with log.open("ab") as stream:
        process = groups.start(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=for_child())
    heartbeat = Heartbeat(run.out_dir, watch.hang_timeout_seconds)
    try:
        for event in _follow(run.out_dir / "metrics.jsonl", process, heartbeat, run.skill):
            on_event(event)
    finally:
        end_group(process, watch.grace_seconds)
    if process.returncode != 0:
        kind = TrainingStoppedError if process.returncode == STOPPED else TrainingError
        raise kind(f"training of {run.skill!r}", _reason(log, process.returncode), f"the complete log is {log}")


class Heartbeat:
    """Whether files in a folder still change, measured with this machine's monotonic clock."""

    def __init__(self, folder: Path, limit: float) -> None:
        self._folder, self._limit = folder, limit
        self._every = min(LOOK_SECONDS, limit / 10)
        self._last, self._since = self._state(), time.monotonic()
        self._looked = self._since

    def silent_for(self) -> float:
        """Seconds since the last observed change of any file in the folder.

        It checks rarely, because the folder may be large or remote, and always before it reports that the limit is reached.
        """
        now = time.monotonic()
        if now - self._looked >= self._every or now - self._since > self._limit:
            self._looked, state = now, self._state()
            if state != self._last:
                self._last, self._since = state, now
        return now - self._since

    @property
    def hung(self) -> bool:
        return self.silent_for() > self._limit

    def _state(self) -> frozenset[tuple[str, int, int]]:
        found = []
        for folder, _, names in os.walk(self._folder):
            for name in names:
                path = os.path.join(folder, name)
                try:
                    status = os.stat(path)
                except FileNotFoundError:
                    continue  # a temporary file that has been renamed meanwhile
                found.append((path, status.st_size, status.st_mtime_ns))
        return frozenset(found)


def end_group(process: subprocess.Popen[bytes], grace: float) -> None:
    """Stop all processes of the training's group: SIGTERM first, SIGKILL after `grace` seconds."""
    with suppress(ProcessLookupError):  # all have ended
        groups.terminate(process)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=grace)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    groups.forget(process)


def _follow(path: Path, process: subprocess.Popen[bytes], heartbeat: Heartbeat, skill: str) -> Iterator[Event]:
    """Yield the events that are appended to `path` until the process ends."""
    tail = EventTail(path)
    ended = False
    while not ended:
        try:
            process.wait(timeout=POLL_SECONDS)
            ended = True
        except subprocess.TimeoutExpired:
            if heartbeat.hung:
                what = f"has written nothing for {heartbeat.silent_for():.0f} s and was stopped"
                way_out = f"see {path.with_name(LOG_NAME)}; the same command resumes its saved state (limit: trainer.hang_timeout_seconds)"
                raise TrainerHungError(f"training of {skill!r}", what, way_out) from None
        yield from tail.new_events()


class EventTail:
    """Events that are appended to a file from now on; an incomplete last line is read when it is complete.

    A resumed run replaces the file by one without the lines after its last saved state. The events up to `resumed` in the new file were
    returned before.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode: int | None = None
        self._position = 0
        if path.exists():
            self._inode, self._position = path.stat().st_ino, path.read_bytes().rfind(b"\n") + 1

    def new_events(self) -> list[Event]:
        try:
            stream = self._path.open("rb")
        except FileNotFoundError:
            return []
        with stream:
            inode = os.fstat(stream.fileno()).st_ino
            replaced = self._inode not in (None, inode)
            start = 0 if replaced else self._position
            stream.seek(start)
            lines = [line for line in stream if line.endswith(b"\n")]  # only the last line can be incomplete
        self._inode, self._position = inode, start + sum(len(line) for line in lines)
        events: list[Event] = [json.loads(line) for line in lines]
        if not replaced:
            return events
        resumed = [index for index, event in enumerate(events) if event["event"] == "resumed"]
        return events[resumed[-1] :] if resumed else []


def _reason(log: Path, status: int) -> str:
    """The engine's one-line error, or how the process ended."""
    if status < 0:
        return f"the training process was ended by signal {-status}"
    return (
        reason_of(log.read_text(encoding="utf-8", errors="replace"))
        or f"the training process ended with status {status} and without output"
    )
