"""The cache of decompositions loses what is complete or old, and nothing else."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.config.model import SkillstackConfig
from flows.workspace.decompositions import DAY, folder_of, forget_old, forget_whole
from osft_engine.run import WHOLE


@pytest.fixture
def workspace(tmp_path: Path) -> Any:
    return SimpleNamespace(config=SkillstackConfig(state_dir=tmp_path))


def kept(workspace: Any, name: str, *, days: float = 0.0, folder: bool = False) -> None:
    path = folder_of(workspace) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if folder:
        path.mkdir()
        (path / "q_proj.safetensors").write_bytes(b"12345678")
    else:
        path.write_bytes(b"1234")
    then = time.time() - days * DAY
    os.utime(path, (then, then))


def names(workspace: Any) -> list[str]:
    return sorted(path.name for path in folder_of(workspace).iterdir())


def test_a_sweep_leaves_the_directions_that_a_round_needs(workspace: Any) -> None:
    forget_whole(workspace)  # nothing was made yet
    kept(workspace, f"{WHOLE}-abc", folder=True)
    kept(workspace, "directions-abc.safetensors")
    forget_whole(workspace)
    assert names(workspace) == ["directions-abc.safetensors"]


def test_only_what_is_older_goes_and_its_bytes_are_counted(workspace: Any) -> None:
    kept(workspace, "old", days=40, folder=True)
    kept(workspace, "old.safetensors", days=40)
    kept(workspace, "new.safetensors", days=20)
    assert forget_old(workspace, 30, dry_run=True) == 12
    assert names(workspace) == ["new.safetensors", "old", "old.safetensors"]
    assert forget_old(workspace, 30, dry_run=False) == 12
    assert names(workspace) == ["new.safetensors"]
    assert forget_old(workspace, 30, dry_run=False) == 0
