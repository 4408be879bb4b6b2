"""One server on loopback: a process with a free port, a log and a question whether it answers. Used by services.py."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

POLL_SECONDS = 0.1
START_SECONDS = 180.0
STOP_SECONDS = 30.0
_PR_SET_PDEATHSIG = 1


class ServiceError(RuntimeError):
    """A server that did not come up, with the end of its log."""


def wait_until(condition: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    """Poll a condition; raise ServiceError, saying what was waited for, when the time is over."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise ServiceError(f"waited {seconds:.0f} s for {what}")
        time.sleep(POLL_SECONDS)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


@dataclass
class Server:
    """One process with its log; stopped by a signal to its whole group, started again with the same command, port and folder."""

    name: str
    folder: Path
    command: list[str]
    environment: Mapping[str, str]
    ready: Callable[[], bool]
    stop_signal: signal.Signals = signal.SIGTERM
    user: str | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def start(self) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_", "AWS_"))}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env={**inherited, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,
                user=self.user,
            )

        def up() -> bool:
            if self.process is None or self.process.poll() is not None:
                raise ServiceError(f"{self.name} ended while it started:\n{self.log_tail()}")
            return self.ready()

        try:
            wait_until(up, f"{self.name} to answer")
        except ServiceError as error:
            self.kill()
            raise ServiceError(f"{error}\n{self.log_tail()}") from error

    def stop(self) -> None:
        """End it in order; kill it where it does not go."""
        self._end(self.stop_signal)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def log_tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    def _end(self, how: signal.Signals) -> None:
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            # PostgreSQL's postmaster tells its children itself; a signal to each of them would look like a crash.
            os.kill(self.process.pid, how) if self.user else os.killpg(self.process.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None


def _die_with_parent() -> None:
    """A killed test run leaves no server behind (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
