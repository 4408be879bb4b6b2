"""infra/backup.sh and the databases that it finds: none, those that compose makes, or some that are in use. Without a bucket."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.services

SCRIPT = Path(__file__).parents[2] / "infra" / "backup.sh"
NAMES = ("prefect", "mlflow", "mlflow_users")


def environment(postgres: Any) -> dict[str, str]:
    programs = Path(postgres.server.command[0]).parent
    server = {"PGHOST": "127.0.0.1", "PGPORT": str(postgres.port), "PGUSER": "skillstack", "PGPASSWORD": postgres.password}
    return os.environ | server | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}


def psql(postgres: Any, database: str, statement: str) -> str:
    line = ["psql", "-v", "ON_ERROR_STOP=1", "-Atc", statement, database]
    return subprocess.run(line, env=environment(postgres), capture_output=True, text=True, check=True).stdout.strip()


def backup(postgres: Any, action: str, folder: Path, state: Path) -> subprocess.CompletedProcess[str]:
    variables = environment(postgres) | {"SKILLSTACK_STATE": str(state), "SKILLSTACK_BUCKET": ""}
    return subprocess.run([str(SCRIPT), action, str(folder)], env=variables, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def saved(parts: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of three databases with a row each and a state directory with a file."""
    folder = tmp_path_factory.mktemp("backup")
    (folder / "state").mkdir()
    (folder / "state" / "file").write_text("kept")
    postgres = parts.Postgres(NAMES)
    with contextlib.closing(postgres):
        for name in NAMES:
            psql(postgres, name, f"CREATE TABLE kept AS SELECT '{name}' AS value")
        done = backup(postgres, "save", folder / "saved", folder / "state")
        assert done.returncode == 0, done.stderr
    return folder / "saved"


@pytest.fixture
def empty(parts: Any) -> Iterator[Any]:
    postgres = parts.Postgres(())
    with contextlib.closing(postgres):
        yield postgres


@pytest.mark.parametrize("made", [(), NAMES], ids=["no databases", "those that compose makes"])
def test_it_restores_into_an_empty_server(empty: Any, saved: Path, tmp_path: Path, made: tuple[str, ...]) -> None:
    for name in made:
        psql(empty, "postgres", f'CREATE DATABASE "{name}"')
    done = backup(empty, "restore", saved, tmp_path / "state")
    assert done.returncode == 0, done.stderr
    assert [psql(empty, name, "SELECT value FROM kept") for name in NAMES] == list(NAMES)
    assert (tmp_path / "state/file").read_text() == "kept"


def test_a_database_in_use_is_left_alone(empty: Any, saved: Path, tmp_path: Path) -> None:
    psql(empty, "postgres", 'CREATE DATABASE "mlflow"')
    psql(empty, "mlflow", "CREATE TABLE mine AS SELECT 'mine' AS value")
    done = backup(empty, "restore", saved, tmp_path / "state")
    assert done.returncode == 1
    assert done.stderr.strip() == "error: the database mlflow is not empty: restore before MLflow and Prefect start, or drop it"
    assert psql(empty, "mlflow", "SELECT value FROM mine") == "mine"
    assert not list((tmp_path / "state").iterdir()), "nothing was restored"
