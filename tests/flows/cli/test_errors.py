"""Every command line that means nothing is one line and exit code 1 (2 means blocked); every command has its help."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli.app import app
from flows.cli.errors import run
from osft_engine.loop.stopping import STOPPED


def test_a_wrong_option_is_one_line_and_exit_code_1(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, [*path, "--no-such-option"]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ")
    assert len(told.err.splitlines()) == 1, told.err
    assert "--no-such-option" in told.err
    assert "--help" in told.err


def test_with_json_a_wrong_option_is_one_json_object(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, [*path, "--no-such-option", "--json"]) == 1
    told = capsys.readouterr()
    error = json.loads(told.out)["error"]
    assert "--no-such-option" in error["what"]
    assert error["where"].startswith("skillstack")
    assert error["way_out"]
    assert told.err == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rond"], "did you mean 'round'?"),
        (["gate", "rplay"], "did you mean 'replay'"),
        (["round", "--skil", "x"], "--skill"),
        (["round"], "missing"),
        (["round", "drop.jsonl"], "missing option '--skill'"),
        (["round", "drop.jsonl", "--skill"], "requires an argument"),
        (["round", "drop.jsonl", "--skill", "a", "--scale", "much"], "should be a valid number"),
        (["round", "drop.jsonl", "--skill", "a", "--scale", "7"], "less than or equal to 1"),
        (["gate", "replay", "two"], "should be a valid integer"),
        (["history", "more"], "unexpected extra argument"),
    ],
)
def test_a_mistake_names_itself_and_the_nearest(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, arguments) == 1
    told = capsys.readouterr().err
    assert said in told.lower(), told
    assert len(told.splitlines()) == 1, told


def test_a_fault_of_the_program_keeps_its_place_and_is_json_where_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fault(*_: object) -> None:
        raise KeyError("nothing of this name")

    monkeypatch.setattr("flows.cli.app.read_config", fault)
    assert run(app, ["history", "--json"]) == 1
    told = capsys.readouterr()
    assert "KeyError" in json.loads(told.out)["error"]["what"]
    assert "Traceback" in told.err, "whoever mends it needs the place"


@pytest.mark.parametrize("made_of_it", ["RuntimeError('a flow run crashed')", "asyncio.CancelledError()", "error"])
def test_a_command_that_sigterm_stopped_ends_whatever_error_a_library_made_of_it(made_of_it: str) -> None:
    program = (
        "import asyncio, os, signal, threading, typer\n"
        "from flows.cli import errors\n"
        "errors.EXIT_SECONDS = 0.1\n"
        "app = typer.Typer()\n"
        "@app.command()\n"
        "def work():\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        threading.Event().wait(60)\n"
        "    except BaseException as error:\n"
        f"        raise {made_of_it}\n"
        "threading.Thread(target=threading.Event().wait).start()\n"
        "errors.leave(lambda: errors.run(app, []))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], timeout=120, check=False, capture_output=True, text=True)
    assert done.returncode == STOPPED
    assert "was stopped by SIGTERM" in done.stderr


LOCKED = (
    "import os, signal, subprocess, sys, threading, typer\n"
    "from flows.cli import errors\n"
    "from flows.machine import groups\n"
    "errors.DEADLINE_SECONDS, errors.SAVING_SECONDS, errors.TELL_SECONDS = 0.5, {saving}, 0.0\n"
    "app = typer.Typer()\n"
    "@app.command()\n"
    "def work():\n"
    "    child = {child}\n"
    "    signal.signal(signal.SIGTERM, lambda *_: None)\n"  # a library's handler, after which a lock is never given back
    "    os.kill(os.getpid(), signal.SIGTERM)\n"
    "    threading.Event().wait()\n"
    "errors.leave(lambda: errors.run(app, []))\n"
)
SAVES = (
    "import signal, sys, time\n"
    "def save(*_):\n"
    "    time.sleep(2)\n"  # longer than the deadline: a state of some gigabytes
    "    open(sys.argv[1], 'w').write('state')\n"
    "    sys.exit(75)\n"
    "signal.signal(signal.SIGTERM, save)\n"
    "print(flush=True)\n"
    "while True:\n"
    "    signal.pause()\n"
)


def test_a_command_that_a_lock_holds_after_sigterm_ends_by_a_deadline() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOCKED.format(saving=60, child="None")], timeout=120, check=False, capture_output=True, text=True
    )
    assert done.returncode == STOPPED
    assert "a lock held it" in done.stderr


def test_a_training_saves_its_state_although_a_lock_holds_the_command(tmp_path: Path) -> None:
    state = tmp_path / "state"
    child = f"groups.start([sys.executable, '-c', {SAVES!r}, {str(state)!r}], stdout=subprocess.PIPE); child.stdout.readline()"
    program = LOCKED.format(saving=60, child=child)
    done = subprocess.run([sys.executable, "-c", program], timeout=120, check=False, stdout=subprocess.DEVNULL)
    assert (done.returncode, state.exists()) == (STOPPED, True)


def test_a_training_that_never_ends_holds_the_command_no_longer_than_saving_may_take() -> None:
    deaf = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); sys.stdin.read()"
    pipes = "stdin=subprocess.PIPE, stdout=subprocess.PIPE"  # it ends with this pipe
    child = f"groups.start([sys.executable, '-c', {deaf!r}], {pipes}); child.stdout.readline()"
    done = subprocess.run([sys.executable, "-c", LOCKED.format(saving=0.6, child=child)], timeout=120, check=False)
    assert done.returncode == STOPPED


@pytest.mark.parametrize(("ends", "code"), [("return 1", 1), ("raise RuntimeError", 1), ("return 75", STOPPED)])
def test_a_command_that_failed_or_was_stopped_ends_although_a_thread_does_not(ends: str, code: int) -> None:
    """A round whose SIGTERM Prefect had lost waited for ever for a thread of Prefect's."""
    program = (
        "import threading\nfrom flows.cli import errors\nerrors.EXIT_SECONDS = 0.2\n"
        "threading.Thread(target=threading.Event().wait).start()\n"
        f"def command():\n    {ends}\n"
        "errors.leave(command)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=120).returncode == code
