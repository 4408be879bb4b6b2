"""The engine's cache of decompositions, under `.skillstack/decompositions`. A missing one is computed again."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from flows.workspace.workspace import Workspace
from osft_engine.run import WHOLE

DAY = 86400.0


def folder_of(workspace: Workspace) -> Path:
    return workspace.config.state_dir / "decompositions"


def forget_whole(workspace: Workspace) -> None:
    """Remove the complete decompositions of a sweep: several times as large as the weights, and not needed by a round."""
    for folder in folder_of(workspace).glob(f"{WHOLE}*"):
        shutil.rmtree(folder)


def forget_old(workspace: Workspace, days: float, *, dry_run: bool) -> int:
    """Remove decompositions older than `days`, which probably belong to an earlier champion. Returns their size in bytes."""
    old = [path for path in folder_of(workspace).glob("*") if path.stat().st_mtime < time.time() - days * DAY]
    size = sum(file.stat().st_size for path in old for file in (path, *path.rglob("*")) if file.is_file())
    for path in [] if dry_run else old:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return size
