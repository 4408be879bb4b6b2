"""A laptop's environment in a temporary folder, and a real MLflow store on SQLite for every test: migrated once a session, then copied."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from data_contracts.manifests import Verdict
from flows.lineage import Lineage, RoundRun, VersionRef, connect, promote_version
from flows.lineage.storage.signing import SigningConfig
from flows.machine.environment import prepare_environment

from .made_rounds import RoundFolders, judge_round, run_round, write_folders


@pytest.fixture(scope="session", autouse=True)
def _environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PREFECT_API_URL", "PREFECT_HOME"):
            patch.delenv(name, raising=False)
        server = os.environ.get("MLFLOW_TRACKING_URI")  # of the service tests, which may run in this process before and after
        prepare_environment(tmp_path_factory.mktemp("state"))
        if server is None:
            del os.environ["MLFLOW_TRACKING_URI"]
        yield


@pytest.fixture(autouse=True)
def _own_state_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test's own state_dir says where MLflow is."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def loaded() -> tuple[Any, Any]:
    """The shipped model nano and its tokenizer; only to be read."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from flows.base_models.resolve import NANO

    return AutoModelForCausalLM.from_pretrained(NANO), AutoTokenizer.from_pretrained(NANO)


@pytest.fixture
def repository() -> Path:
    return Path(__file__).parents[2]


def open_store(state_dir: Path, signing: SigningConfig | None = None) -> Lineage:
    uri = f"sqlite:///{state_dir}/mlflow.db"
    return connect(uri, model_name="tiny", experiment="rounds", state_dir=state_dir, signing=signing)


def copy_state(source: Path, target: Path) -> Path:
    """A second, independent lineage: as for a user who copies a project, the next one who opens it makes it one of its own."""
    from mlflow.tracking._tracking_service import utils

    utils._artifact_repos_cache.clear()  # it knows runs by id, and a copy's runs have the ids of the source's
    shutil.copytree(source, target)
    for path in source.parent.glob("*.jsonl"):  # the user's own files, beside the state
        shutil.copyfile(path, target.parent / path.name)
    return target


@pytest.fixture(scope="session")
def empty_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = tmp_path_factory.mktemp("empty") / "state"
    open_store(state)
    return state


@pytest.fixture(scope="session")
def grown_state(tmp_path_factory: pytest.TempPathFactory, empty_state: Path) -> Path:
    """Base and two promoted rounds: the champion is version 3."""
    state = copy_state(empty_state, tmp_path_factory.mktemp("grown") / "state")
    lineage = open_store(state)
    _, champion, _ = run_round(lineage, "base", 0)
    promote_version(lineage, champion.version, expected_champion=None, reason="start", actor="test", verdict=None)
    for number, name in enumerate(("first", "second"), start=1):
        _, version, folders = run_round(lineage, name, number, parent=champion.model_sha256)
        promote_version(lineage, version.version, expected_champion=champion.version, reason="gate", actor="flow", verdict=folders.verdict)
        champion = version
    return state


@pytest.fixture
def state_dir(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    source = "grown_state" if "grown" in request.fixturenames else "empty_state"
    return copy_state(request.getfixturevalue(source), tmp_path / "state")


@pytest.fixture
def open_lineage(state_dir: Path) -> Callable[[], Lineage]:
    return lambda: open_store(state_dir)


@pytest.fixture
def lineage(state_dir: Path) -> Lineage:
    return open_store(state_dir)


@pytest.fixture
def grown(state_dir: Path) -> Lineage:
    """Base and two promoted rounds: the champion is version 3."""
    return open_store(state_dir)


@pytest.fixture
def make_folders(state_dir: Path) -> Callable[..., RoundFolders]:
    return partial(write_folders, state_dir)


@pytest.fixture(scope="session")
def make_folders_in() -> Callable[..., RoundFolders]:
    return write_folders


@pytest.fixture(scope="session")
def open_store_at() -> Callable[..., Lineage]:
    return open_store


@pytest.fixture(scope="session")
def register() -> Callable[..., tuple[RoundRun, VersionRef, RoundFolders]]:
    return run_round


@pytest.fixture(scope="session")
def judge() -> Callable[..., tuple[Path, Verdict]]:
    return judge_round


@pytest.fixture(scope="session")
def copy_of() -> Callable[[Path, Path], Path]:
    return copy_state
