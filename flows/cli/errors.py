"""How a command reports an error: one line (where, what, the way out), or one JSON object with --json; exit code 1.

click's own exit code for a wrong option is 2, which here means that the gate blocked the round. A command that SIGTERM stops exits with 75,
as a training does: the same command goes on from what is saved.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

import typer
from typer.exceptions import TyperException

from data_contracts.errors import SkillstackError
from data_contracts.full_disk import WHAT, is_full_disk
from flows.cli import console
from flows.cli.options import repeat_options
from flows.machine import groups
from flows.machine.extras import missing_extra
from osft_engine.loop.stopping import STOPPED

FAILED = 1
EXIT_SECONDS = 10.0
"""Time for a stopped command's exit handlers; threads that do not end would hold the process for ever."""


DEADLINE_SECONDS = 28.0
"""Time from SIGTERM to the end of a command that still runs: a preempted node gives 30 s. A handler of Prefect raises wherever the main
thread is; where that is inside `logging`, its lock stays taken, and every other thread that logs waits for ever."""
SAVING_SECONDS = 60.0
"""The same where a training still saves its state."""
TELL_SECONDS, LOOK_SECONDS = 1.0, 0.2
"""Time in which the main thread tells its trainings itself, and the interval of looks at whether all has ended."""

_stopped = threading.Event()
"""SIGTERM came while the command ran. A library may make another error of the exception, or none."""


class StoppedBySignal(SystemExit):
    """SIGTERM, as an exception: what a command began is ended by its `finally` blocks, such as the trainer's process group."""


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Prefect handles the signal while a flow runs, and then sends it again to the handler that was there before."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not cut off what the first began
        _stopped.set()
        raise StoppedBySignal(STOPPED)

    if threading.current_thread() is not threading.main_thread():  # Python allows handlers in no other
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        with _deadline():
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _deadline() -> Iterator[None]:
    """After SIGTERM, whoever handles it (the interpreter itself writes its number to the pipe): tell the trainings, so that they save their
    state whatever holds the main thread, and end this process by the deadline if the command still runs then."""
    over = threading.Event()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def watch() -> None:
        with os.fdopen(reader, "rb", buffering=0) as numbers:
            while seen := numbers.read(16):
                if signal.SIGTERM in seen:
                    _stopped.set()
                    if over.wait(TELL_SECONDS):
                        return
                    groups.terminate_all()
                    if _is_over_in_time(over):
                        return
                    os.write(2, b"error: skillstack: was stopped by SIGTERM, and a lock held it (run the same command again)\n")
                    os._exit(STOPPED)

    threading.Thread(target=watch, name="sigterm-deadline", daemon=True).start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        os.close(writer)


def _is_over_in_time(over: threading.Event) -> bool:
    started = time.monotonic()
    while not over.wait(LOOK_SECONDS):
        passed = time.monotonic() - started
        if passed >= SAVING_SECONDS or (passed >= DEADLINE_SECONDS and not groups.any_runs()):
            return False
    return True


def run(app: typer.Typer, arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    _stopped.clear()
    console.choose("--json" in arguments)  # a wrong option is refused before its command can choose
    try:
        with _sigterm_raises():
            return int(app(args=repeat_options(arguments), prog_name="skillstack", standalone_mode=False) or 0)
    except TyperException as error:
        return _failed(usage_error(error))
    except SkillstackError as error:
        return _failed(error)
    except typer.Abort:
        return _failed(None)
    except Exception as error:
        return _failed(None if _stopped.is_set() else _expected(error))
    except BaseException:  # as a cancelled event loop leaves it
        if not _stopped.is_set():
            raise
        return _failed(None)


def leave(run_command: Callable[[], int]) -> NoReturn:
    """Run a command and end this process with its exit code.

    One that failed or that SIGTERM stopped ends within EXIT_SECONDS: what it began has been ended, and a thread may never do so. Prefect
    can lose a SIGTERM to its own shutdown; the command then seems to have failed by itself.
    """
    status = FAILED
    try:
        status = run_command()
    finally:
        if status in (FAILED, STOPPED) or _stopped.is_set():
            timer = threading.Timer(EXIT_SECONDS, os._exit, (status,))
            timer.name, timer.daemon = "exit-deadline", True
            timer.start()
    sys.exit(status)


def usage_error(error: TyperException) -> SkillstackError | None:
    """A wrong command line as an error of one line; None where the help was just shown instead."""
    message = " ".join(error.format_message().split())
    if not message:
        return None
    context: Any = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "skillstack"
    return SkillstackError(command, message[0].lower() + message[1:].rstrip("."), f"see {command} --help")


def is_from_prefect(error: Exception) -> bool:
    """Whether Prefect itself failed, not the code that it ran: its own exceptions, or its embedded server did not start."""
    return type(error).__module__.startswith("prefect") or "Prefect API server" in str(error)


def _expected(error: Exception) -> SkillstackError:
    """One line for an error of the environment; a bug of skillstack also prints its traceback on stderr."""
    if is_full_disk(error):
        return SkillstackError("state directory", WHAT, "free space or set state_dir to another disk, then run the same command again")
    if is_from_prefect(error):
        what = " ".join(str(error).split())[:200]
        return SkillstackError("Prefect", what, "run `skillstack doctor` and check that the server answers and that the disk has space")
    if isinstance(error, OSError):
        where = str(error.filename) if error.filename else "operating system"
        return SkillstackError(where, error.strerror or str(error), "correct this, then run the same command again")
    if (refusal := missing_extra(error)) is not None:
        return refusal
    traceback.print_exc()
    return SkillstackError("skillstack", f"{type(error).__name__}: {error}", "this is a bug: please report it with the traceback above")


def _failed(error: SkillstackError | None) -> int:
    if _stopped.is_set():  # whatever error was made of it
        console.show_error(
            SkillstackError("skillstack", "was stopped by SIGTERM", "run the same command again, it continues from what is saved")
        )
        return STOPPED
    if error is not None:
        console.show_error(error)
    return FAILED
