"""A trainer ends with the flow that started it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def alive(pid: int) -> bool:
    """Neither gone nor a zombie that nobody has asked for yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_killed_flow_takes_its_trainers_with_it(wait_for: Callable[[Callable[[], bool]], None], tmp_path: Path) -> None:
    """The parent dies by SIGKILL and can tell nobody; the keeper notices."""
    child = f"import os, pathlib, time; pathlib.Path({str(tmp_path / 'child')!r}).write_text(str(os.getpid())); time.sleep(600)"
    keep = f"[sys.executable, '-m', 'flows.trainer.keeper', '--parent', str(os.getpid()), '--', sys.executable, '-c', {child!r}]"
    parent = subprocess.Popen([sys.executable, "-c", f"import os, subprocess, sys; subprocess.Popen({keep}).wait()"])
    wait_for(lambda: (tmp_path / "child").exists() and bool((tmp_path / "child").read_text()))
    pid = int((tmp_path / "child").read_text())
    parent.kill()
    parent.wait()
    wait_for(lambda: not alive(pid))
