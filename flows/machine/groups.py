"""The process groups that this process started: which still run, and SIGTERM to each once, from whichever thread comes first.

A stopped command ends its trainings in `finally` blocks. Where a lock holds the main thread they never run, and a training that is told
nothing loses what it has not saved when the machine goes away. Reading this table takes no lock.
"""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress

_running: dict[subprocess.Popen[bytes], bool] = {}
"""Leader of a process group, a child of this process -> whether the group was sent SIGTERM."""


def start(command: list[str], **options: object) -> subprocess.Popen[bytes]:
    """Start a command in a session, and thus a process group, of its own."""
    process: subprocess.Popen[bytes] = subprocess.Popen(command, start_new_session=True, **options)  # type: ignore[call-overload]
    _running[process] = False
    return process


def terminate(process: subprocess.Popen[bytes]) -> None:
    """Send the group SIGTERM unless it has had it. Raises ProcessLookupError if all of its processes have ended."""
    if _running.get(process):
        return
    _running[process] = True
    os.killpg(process.pid, signal.SIGTERM)


def forget(process: subprocess.Popen[bytes]) -> None:
    """The group has ended and its leader was waited for: its number may be given to another."""
    _running.pop(process, None)


def terminate_all() -> None:
    """Send SIGTERM to each group that runs and has not had it."""
    for process in list(_running):
        with suppress(ProcessLookupError):
            terminate(process)


def any_runs() -> bool:
    """Whether the leader of a group still runs. One that has ended and was not waited for does not run."""
    return any(_runs(process.pid) for process in list(_running))


def _runs(child: int) -> bool:
    try:
        return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False
