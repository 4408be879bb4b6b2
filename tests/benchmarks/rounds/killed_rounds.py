"""The rounds that random_kills.py interrupts: their project, the base that they start from, and how far one is by what lies on its disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import yaml

ITEMS, ROWS = 60, 240
STAGES = (
    "before the first stage",
    "validate",
    "train",
    "evaluate",
    "decide",
    "register",
    "after the verdict is registered",
    "after the end",
)
PROMOTES = {"accept_unmeasured": ["safety", "drift"], "min_learned": 0.0, "min_gain": 0.0}
"""Settings of the gate without which this small round would be held."""


def write_project(folder: Path) -> None:
    """Suites, a drop and one config; the state directory is chosen by each round."""
    from flows.demo.materials import write_base_suites, write_drop

    base = write_base_suites(folder / "suites")
    chosen = dict(list(base.suites.items())[:2])
    for path in chosen.values():
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:ITEMS]))
    drop = write_drop("route", folder / "route.jsonl")
    drop.write_text("".join(drop.read_text().splitlines(keepends=True)[:ROWS]))
    suites = [{"name": name, "source": str(path), "chat": True, "max_new_tokens": 16} for name, path in chosen.items()]
    values: dict[str, Any] = {
        "base_model": "nano",
        "bootstrap": True,
        "calibration": str(base.calibration),
        "contract": {"heldout_fraction": 0.25},
        "evaluation": {"num_threads": 1, "suites": suites},
        "train": {"num_epochs": 3, "effective_batch_size": 4, "num_threads": 1, "learning_rate": 2e-3, "save_every_steps": 10},
        "service": {"gpu_limit": ""},
        "gate": {"margin_general": 0.2, "margin_skill": 0.2, "floor": 0.3, "anchor_budget": 0.3} | PROMOTES,
    }
    (folder / "values.yaml").write_text(yaml.safe_dump(values))


def config_of(folder: Path, name: str) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text((folder / "values.yaml").read_text() + f"state_dir: {folder / name}\n")
    return path


def make_base(folder: Path) -> None:
    """Register the base in a state directory that the rounds copy."""
    if (folder / "base").is_dir():
        return
    shutil.rmtree(folder / "base.partial", ignore_errors=True)
    config = config_of(folder, "base.partial")
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            from flows.config.model import load_config
            from flows.machine.environment import prepare_environment

            settings = load_config(config)
            prepare_environment(settings.state_dir)
            from flows.round.base import ensure_champion
            from flows.workspace.workspace import open_workspace

            ensure_champion(open_workspace(settings))
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    (folder / "base.partial").rename(folder / "base")


def stage_of(state: Path) -> str:
    """Where the round is, by what lies in its state directory."""
    stages = state / "stages"

    def done(name: str) -> bool:
        return any(stages.glob(f"{name}/*/manifest.json"))

    if done("decide"):
        return STAGES[6] if registered(state) else STAGES[5]
    if done("train"):
        return STAGES[4] if any(stages.glob("decide/*")) else STAGES[3]
    if done("validate"):
        return STAGES[2]
    return STAGES[1] if any(stages.glob("validate/*")) else STAGES[0]


def registered(state: Path) -> bool:
    """Whether the candidate's version is in the registry."""
    return holds(state, "SELECT count(*) FROM model_versions WHERE version > 1")


def holds(state: Path, query: str) -> bool:
    """Whether the count in the lineage's database is not 0 (read only; the round may be writing)."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(f"file:{state / 'mlflow.db'}?mode=ro", uri=True)) as store:
        return bool(store.execute(query).fetchone()[0])
    return False
