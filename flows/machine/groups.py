"""The process groups that this process started: which still run, and SIGTERM to each once, from whichever thread comes first.

A stopped command ends its trainings in `finally` blocks. Where a lock holds the main thread they never run, and a training that is told
nothing loses what it has not saved when the machine goes away. Reading this table takes no lock.
"""

from __future__ import annotations

import os
import signal
import subprocess

_running: dict[int, bool] = {}
"""Process group -> whether it was sent SIGTERM. The key is the process id of the group's leader, a child of this process."""


def start(command: list[str], **options: object) -> subprocess.Popen[bytes]:
    """Start a command in a session, and thus a process group, of its own."""
    process: subprocess.Popen[bytes] = subprocess.Popen(command, start_new_session=True, **options)  # type: ignore[call-overload]
    _running[process.pid] = False
    return process


def terminate(process: subprocess.Popen[bytes]) -> None:
    """Send the group SIGTERM unless it has had it. Raises ProcessLookupError if all of its processes have ended."""
    _terminate(process.pid)


def forget(process: subprocess.Popen[bytes]) -> None:
    """The group has ended and its leader was waited for: its number may be given to another."""
    _running.pop(process.pid, None)


def terminate_all() -> None:
    """Send SIGTERM to each group that runs and has not had it."""
    for group in list(_running):
        try:
            _terminate(group)
        except ProcessLookupError:
            continue


def any_runs() -> bool:
    """Whether the leader of a group still runs. One that has ended and was not waited for does not run."""
    return any(_runs(group) for group in list(_running))


def _terminate(group: int) -> None:
    if _running.get(group):
        return
    _running[group] = True
    os.killpg(group, signal.SIGTERM)


def _runs(group: int) -> bool:
    try:
        return os.waitid(os.P_PID, group, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False
