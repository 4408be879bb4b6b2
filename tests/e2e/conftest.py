"""A small workspace on nano: two base skills, some prose, one drop, and a config that trains for seconds."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from flows.demo.materials import write_base_suites, write_drop
from flows.machine.environment import prepare_environment

ITEMS, ROWS = 60, 240


class Workspace:
    """A project folder as a user has it: skillstack.yaml, suites and a drop."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        base = write_base_suites(folder / "suites")
        chosen = dict(list(base.suites.items())[:2])
        for path in chosen.values():
            path.write_text("".join(path.read_text().splitlines(keepends=True)[:ITEMS]))
        self.drop = write_drop("route", folder / "route.jsonl")
        self.drop.write_text("".join(self.drop.read_text().splitlines(keepends=True)[:ROWS]))
        self.values: dict[str, Any] = {
            "base_model": "nano",
            "bootstrap": True,
            "calibration": str(base.calibration.relative_to(folder)),
            "contract": {"heldout_fraction": 0.25},
            "evaluation": {
                "num_threads": 1,
                "suites": [
                    {"name": name, "source": str(path.relative_to(folder)), "chat": True, "max_new_tokens": 16}
                    for name, path in chosen.items()
                ],
            },
            # Two base skills and nothing else are asked, and one short pass over the drop is not meant to make a useful skill.
            "gate": {"accept_unmeasured": ["safety", "drift"], "min_learned": 0.0, "min_gain": 0.0},
            "train": {"num_epochs": 1, "effective_batch_size": 16, "num_threads": 1, "learning_rate": 2e-3},
        }

    def write_config(self, name: str = "skillstack.yaml", **changes: Any) -> Path:
        """Write the config with sections replaced or extended; gives its path."""
        values = {**self.values}
        for section, change in changes.items():
            values[section] = {**values.get(section, {}), **change} if isinstance(change, dict) else change
        path = self.folder / name
        path.write_text(yaml.safe_dump(values))
        return path


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.fixture(scope="session")
def workspace_type() -> type[Workspace]:
    """For fixtures that outlive one test."""
    return Workspace


@pytest.fixture(scope="session", autouse=True)
def _environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A laptop's environment in a temporary folder: no server, no network, nothing of the user's touched."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME"):
            patch.delenv(name, raising=False)
        prepare_environment(tmp_path_factory.mktemp("state"))
        patch.delenv("MLFLOW_TRACKING_URI")  # each test's own state_dir decides
        yield


@pytest.fixture(scope="session")
def three_drops() -> ModuleType:
    """The script that writes the drops of a new user's trial."""
    spec = importlib.util.spec_from_file_location("skillstack_three_drops", Path(__file__).with_name("three_drops.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
