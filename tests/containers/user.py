"""A user's folder on the stack: config, suites, an inbox and drops, owned by the user of the containers."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import yaml

from flows.demo.materials import write_base_suites, write_drop

USER = 10001


def write_project(stack: Any) -> None:
    """A user's folder: skillstack.yaml, suites and an inbox, owned by the containers' user."""
    folder = stack.project
    (folder / "inbox").mkdir()
    base = write_base_suites(folder / "suites")
    chosen = dict(list(base.suites.items())[:2])
    for path, lines in (*((suite, 120) for suite in chosen.values()), (base.calibration, 300)):
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:lines]))
    suites = [{"name": name, "source": str(path.relative_to(folder)), "chat": True, "max_new_tokens": 16} for name, path in chosen.items()]
    values = {
        "base_model": "nano",
        "bootstrap": True,
        "calibration": str(base.calibration.relative_to(folder)),
        "contract": {"heldout_fraction": 0.25},
        "train": {"num_epochs": 2, "effective_batch_size": 32, "num_threads": 1, "learning_rate": 2e-3, "save_every_steps": 2},
        "evaluation": {"num_threads": 1, "max_batch_size": 128, "suites": suites, "skill": {"max_new_tokens": 16}},
        # Wide, as a few dozen items are few; the floor still blocks.
        "gate": {
            "margin_general": 0.1, "margin_skill": 0.1, "floor": 0.15, "anchor_budget": 0.15, "accept_unmeasured": ["safety", "drift"],
            "min_learned": 0.0,
        },
        "inbox": {"deployment": "continual-round/round", "settle_seconds": 1},
        "service": {"watch_cron": "* * * * *", "timezone": "Europe/Berlin", "lease_seconds": 60},
    }  # fmt: skip
    (folder / "skillstack.yaml").write_text(yaml.safe_dump(values))
    own(folder)


def own(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, USER, USER)


def drop(stack: Any, skill: str, rows: int = 500, to: str = "inbox") -> Path:
    """Written beside and moved in, as a careful sender does."""
    path, folder = stack.folder / f"{skill}.jsonl", stack.project / to
    folder.mkdir(exist_ok=True)
    write_drop(skill, path, rows=rows)
    os.chown(path, USER, USER)
    return Path(shutil.move(path, folder / path.name))
