"""The trainer's processes: followed, noticed when they hang, and never left behind. A stand-in plays the engine to cause the faults."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from data_contracts.errors import TrainingError
from flows.config.launch import LaunchConfig
from flows.config.model import TrainerConfig
from flows.machine.retrying import TrainerHungError, may_pass
from flows.trainer import process as trainer_process
from flows.trainer.process import EventTail, Heartbeat, end_group, run_trainer
from osft_engine.loop.events import EventLog
from osft_engine.run import TrainRun

DEADLINE_SECONDS = 60.0

STEP = "open('metrics.jsonl', 'a').write(json.dumps({'event': 'step', 'step': %d}) + '\\n')"
WITH_CHILD = (
    "import json, os, signal, subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import signal, time; signal.signal(15, 1); time.sleep(600)'])\n"
    "open('pids', 'w').write(f'{os.getpid()} {child.pid}')\n"
)


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Run a script in the trainer's place; gives the steps that were relayed."""

    def played(script: str, *, silent: float = 60.0, grace: float = 0.5) -> list[int]:
        command = [sys.executable, "-c", f"import json, os\nos.chdir({str(tmp_path)!r})\n{script}"]
        monkeypatch.setattr(trainer_process, "trainer_command", lambda *_, **__: command)
        run = TrainRun(base=tmp_path, drop=tmp_path, skill="x", out_dir=tmp_path)
        steps: list[int] = []
        watch = TrainerConfig(hang_timeout_seconds=silent, grace_seconds=grace)
        run_trainer(run, lambda event: steps.append(event["step"]), LaunchConfig(), watch)
        return steps

    return played


def alive(pid: int) -> bool:
    """Whether a process still runs; one that has ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(condition: Callable[[], bool], what: str) -> None:
    pause, end = threading.Event(), time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < end, what
        pause.wait(0.05)


def test_events_are_relayed_in_order(play: Callable[..., list[int]]) -> None:
    assert play("\n".join(STEP % number for number in range(5))) == [0, 1, 2, 3, 4]


def test_the_engines_own_last_line_is_the_error(play: Callable[..., list[int]], tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"training of 'x': drop: is empty .*train\.log"):
        play("import sys; print('noise', file=sys.stderr); print('error: drop: is empty', file=sys.stderr); sys.exit(1)")


def test_a_silent_trainer_is_ended_with_its_children_and_may_be_tried_again(play: Callable[..., list[int]], tmp_path: Path) -> None:
    with pytest.raises(
        TrainerHungError, match=r"has written nothing for \d+ s and was stopped .*the same command resumes its saved state"
    ) as caught:
        play(WITH_CHILD + "import time; time.sleep(600)", silent=1.5)
    assert may_pass(caught.value)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    until(lambda: not any(alive(pid) for pid in pids), "the trainer or its child was left behind")


def test_a_trainer_that_writes_now_and_then_is_not_taken_for_hung(play: Callable[..., list[int]]) -> None:
    script = "import time\nfor number in range(6):\n    " + STEP.replace("%d", "number") + "\n    time.sleep(0.5)"
    assert len(play(script, silent=2.5)) == 6


def test_whatever_ends_the_call_ends_the_whole_group(play: Callable[..., list[int]], tmp_path: Path) -> None:
    """As Prefect's cancellation does: an exception raised in this thread while it waits."""

    class Cancelled(BaseException):
        pass

    def raise_it(*_: object) -> None:
        raise Cancelled

    before = signal.signal(signal.SIGUSR1, raise_it)
    try:

        def interrupt() -> None:
            until((tmp_path / "pids").exists, "the stand-in never started")
            os.kill(os.getpid(), signal.SIGUSR1)

        threading.Thread(target=interrupt).start()
        with pytest.raises(Cancelled):
            play(WITH_CHILD + "import time; time.sleep(600)")
    finally:
        signal.signal(signal.SIGUSR1, before)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    until(lambda: not any(alive(pid) for pid in pids), "the trainer or its child was left behind")


def test_a_group_that_has_ended_is_left_alone() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""], start_new_session=True)
    process.wait()
    end_group(process, 0.0)
    assert process.returncode == 0


def test_any_file_that_changes_is_a_sign_of_life(tmp_path: Path) -> None:
    heartbeat = Heartbeat(tmp_path, 1e-9)  # always at its limit, so that every question is a look
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "state.bin").write_bytes(b"1")
    first = heartbeat.silent_for()
    os.utime(tmp_path / "deep" / "state.bin", ns=(1, 1))  # an hour wrong or thirty years: a change is a change
    assert first < 1.0
    assert heartbeat.silent_for() < 1.0


def test_the_folder_is_not_walked_at_every_poll(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heartbeat, looks = Heartbeat(tmp_path, 3600.0), []
    monkeypatch.setattr(Heartbeat, "_state", lambda self: looks.append(1) or frozenset())
    for _ in range(100):
        assert not heartbeat.hung
    assert not looks, "it last looked when it was made, less than half a minute ago"


def test_a_late_sign_of_life_is_seen_before_a_trainer_is_taken_for_hung(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(trainer_process.time, "monotonic", lambda: now[0])
    heartbeat = Heartbeat(tmp_path, 100.0)
    now[0] = 95.0
    assert not heartbeat.hung
    (tmp_path / "metrics.jsonl").write_text("{}")
    now[0] = 101.0
    assert not heartbeat.hung
    now[0] = 202.0
    assert heartbeat.hung


@pytest.mark.parametrize("looks_between", [True, False])
def test_a_resumed_run_is_followed_from_its_resumption(tmp_path: Path, looks_between: bool) -> None:
    """The engine drops lines that the follower has read already; what it writes then is told once, whenever the follower looks."""
    path = tmp_path / "metrics.jsonl"
    before = EventLog(path)
    for step in range(1, 7):
        before.emit({"event": "step", "step": step, "loss": 1.0 / step})
    with path.open("a") as stream:
        stream.write('{"event": "st')  # where the kill came
    tail, told = EventTail(path), []
    again = EventLog(path)  # in the trainer's own process, after the follower began
    for event in (
        {"event": "start", "examples": 1},
        {"event": "resumed", "step": 4},
        *({"event": "step", "step": n} for n in range(5, 30)),
    ):
        again.emit(event)
        told += tail.new_events() if looks_between else []
    told += tail.new_events()
    told = told[[event["event"] for event in told].index("resumed") :]
    assert [event["step"] for event in told] == [4, *range(5, 30)]


def test_the_error_of_a_trainer_with_json_lines_is_its_message(play: Callable[..., list[int]]) -> None:
    line = '{"level": "ERROR", "message": "error: base.json: is not there (name it)"}'
    with pytest.raises(TrainingError, match=r"base\.json: is not there") as caught:
        play(f"import sys; print({line!r}); sys.exit(1)")
    assert "{" not in caught.value.what
