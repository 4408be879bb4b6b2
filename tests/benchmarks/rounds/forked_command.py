"""A `skillstack` command forked from a process that has imported the libraries which take seconds; everything it starts is as ever.

And a Prefect server that several rounds share.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import select
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

IMPORTED_ONCE = (
    "flows.cli.app",
    "torch",
    "transformers",
    "mlflow",
    "mlflow.data",
    "lm_eval.tasks",
    "evals.harness.fill",
    "statsmodels.api",
)
"""Not Prefect: it reads its settings from the environment while it is imported, and each round has its own."""


class Command:
    """One `skillstack` command with --json in a process and session of its own, forked from this one."""

    def __init__(self, folder: Path, config: Path, *arguments: str) -> None:
        self._streams = [config.with_suffix(f".{name}") for name in ("out", "err")]
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            self._become(folder, [*arguments, "--config", str(config), "--json"])
        self._ended = select.poll()
        self._descriptor = os.pidfd_open(self.pid)
        self._ended.register(self._descriptor, select.POLLIN)
        self.returncode: int | None = None

    def _become(self, folder: Path, arguments: list[str]) -> None:
        code = 1
        try:
            os.chdir(folder)
            for number, path in enumerate(self._streams, start=1):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            from flows.cli.app import app
            from flows.cli.errors import run

            try:
                code = run(app, arguments)
            except SystemExit as error:
                code = error.code if isinstance(error.code, int) else 1
            threading._shutdown()  # type: ignore[attr-defined]  # as the interpreter does at its end, in this order
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)

    def wait(self, seconds: float | None = None) -> bool:
        """Whether it has ended within this time."""
        if self.returncode is None and self._ended.poll(None if seconds is None else seconds * 1000):
            _, status = os.waitpid(self.pid, 0)
            self.returncode = os.waitstatus_to_exitcode(status)
            os.close(self._descriptor)
        return self.returncode is not None

    def result(self) -> tuple[int, str, str]:
        self.wait()
        out, err = (path.read_text() for path in self._streams)
        assert self.returncode is not None
        return self.returncode, out, err


def import_once() -> None:
    hidden = {"MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME", "UVICORN_LOG_CONFIG", "SKILLSTACK_SERVER_OWNER"}
    for name in hidden & set(os.environ):
        del os.environ[name]
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    from flows.machine.environment import OFFLINE_AND_QUIET

    os.environ |= {name: value for name, value in OFFLINE_AND_QUIET.items() if name not in os.environ}
    for name in IMPORTED_ONCE:
        importlib.import_module(name)
    assert not any(name.split(".")[0] == "prefect" for name in sys.modules)
    assert threading.active_count() == 1, "a thread would be missing in the commands"


@contextlib.contextmanager
def prefect_server(folder: Path) -> Iterator[None]:
    """A Prefect server for the rounds that share one, and a lineage that has its base."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    environment = os.environ | {"PREFECT_HOME": str(folder / "server"), "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL"}
    line = [sys.executable, "-P", "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port, "--no-ui"]
    server = subprocess.Popen(line, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not answers(f"http://127.0.0.1:{port}/api/health"):
            if server.poll() is not None:
                raise SystemExit(f"the Prefect server ended with {server.returncode}")
            time.sleep(0.5)
        (folder / "server.url").write_text(f"http://127.0.0.1:{port}/api")
        yield
    finally:
        server.terminate()
        server.wait()


def answers(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
        return bool(answer.status == 200)
    return False
