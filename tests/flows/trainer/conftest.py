"""A stand-in for a cluster, and waiting for what other processes do."""

from __future__ import annotations

import json
import os
import stat
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SECONDS = 30.0

# Stands in for kubectl: keeps what it was asked, and answers that the job ended as the file `end` says.
KUBECTL = """#!{python}
import json, pathlib, sys
folder = pathlib.Path({folder!r})
arguments = sys.argv[3:]
given = sys.stdin.read() if "-" in arguments else ""
with (folder / "asked").open("a") as asked:
    asked.write(json.dumps([arguments[0], given]) + "\\n")
if arguments[0] == "get":
    end = (folder / "end").read_text()
    print(json.dumps({{"status": {{"conditions": [{{"type": end, "status": "True"}}] if end else []}}}}))
if arguments[0] == "logs":
    print("error: the loss is nan at step 3")
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose file `end` decides how jobs end: Complete, Failed, or empty for never."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    (folder / "end").write_text("Complete")
    program = folder / "kubectl"
    program.write_text(KUBECTL.format(python=sys.executable, folder=str(folder)))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


@pytest.fixture
def asked(cluster: Path) -> Callable[[], list[Any]]:
    """What kubectl was called with so far: (verb, standard input) of each call."""

    def calls() -> list[Any]:
        path = cluster / "asked"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    return calls


@pytest.fixture
def wait_for() -> Callable[[Callable[[], bool]], None]:
    """Return as soon as a condition holds; fail where it never does."""

    def wait(condition: Callable[[], bool]) -> None:
        pause, end = threading.Event(), time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < end, "the condition was never reached"
            pause.wait(0.05)

    return wait
