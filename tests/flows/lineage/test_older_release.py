"""A lineage that an earlier commit of this program made is opened where it lies now, verified, replayed and continued.

fixtures/made_by_20fd20b.tar.gz is what that commit left: a tiny random model, one blocked round that a person promoted, the database and
the state directory, without Prefect's database and without what is computed again (decompositions).
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[3]
ARCHIVE = Path(__file__).parent / "fixtures" / "made_by_20fd20b.tar.gz"
ENVIRONMENT = ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME")

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("older")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(made, filter="data")
    config = json.loads((made / "skillstack.yaml").read_text())
    config["gate"] = {"accept_unmeasured": ["safety"]}  # what doctor asks for of a config that was written before the gate asked
    (made / "skillstack.yaml").write_text(json.dumps(config))
    return made


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    """run("verify") -> the command's JSON, from a process of its own, as a person would."""

    def command(*arguments: str, ends: tuple[int, ...] = (0,)) -> Any:
        environment = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT} | {"PYTHONPATH": str(REPOSITORY)}
        line = [sys.executable, "-m", "flows.cli", *arguments, "--json"]
        done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode in ends, done.stdout + done.stderr
        return json.loads(done.stdout)

    return command


def places(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / ".skillstack" / "mlflow.db")) as database:
        return [uri for (uri,) in database.execute("SELECT artifact_uri FROM runs")]


def test_it_is_read_where_it_lies_now(folder: Path, run: Run) -> None:
    assert not any(str(folder) in place for place in places(folder)), "the fixture was made elsewhere"
    rounds = run("history")["rounds"]
    assert [(each["round"], each["skill"], each["decision"], each["champion"]) for each in rounds][-1] == (1, "sums", "BLOCK", True)
    assert (rounds[-1]["who"], rounds[-1]["status"]) == ("ana", "finished")
    assert all(str(folder) in place for place in places(folder)), "its paths were rewritten once"
    assert json.loads((folder / ".skillstack/state.json").read_text())["schema_version"] == 1


def test_every_digest_and_the_verdict_hold(run: Run) -> None:
    verified = run("verify")
    assert verified["ok"], verified["findings"]
    assert run("gate", "replay", "1")["equal"]


@pytest.mark.slow
def test_the_next_round_builds_on_it(folder: Path, run: Run) -> None:
    ended = run("round", "pairs.jsonl", "--skill", "pairs", ends=(0, 2, 3))
    assert ended["round"] == 2
    records = run("history")["rounds"]
    assert [each["skill"] for each in records][-2:] == ["sums", "pairs"]
    assert records[-1]["parent_version"] == 2
    assert run("verify")["ok"]
