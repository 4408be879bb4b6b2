"""`doctor` and `validate` look: they make no folder, change no file and open no connection, before a first round and beside a lineage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

GUARD = """
import socket, sys
def refuse(*arguments, **_):
    raise AssertionError(f"a connection was asked for: {arguments}")
socket.socket.connect = socket.socket.connect_ex = refuse
socket.create_connection = socket.getaddrinfo = refuse
from flows.cli.app import main
sys.argv = ["skillstack", *sys.argv[1:]]
main()
"""


def look(folder: Path, *arguments: str) -> tuple[int, dict[str, object]]:
    hidden = ("PREFECT_", "MLFLOW_", "HF_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)} | {"HF_HOME": str(folder / "hub")}
    done = subprocess.run(
        [sys.executable, "-c", GUARD, *arguments, "--json"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project whose rows and suites are there, whose suites need a template, and in which nothing ever ran."""
    rows = [{"prompt": f"What is {n} and {n + 1}?", "response": f"It is {2 * n + 1}."} for n in range(60)]
    (tmp_path / "drop.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "suite.jsonl").write_text(json.dumps({"topic": "moss", "answer": "green"}) + "\n")
    suite = "{name: moss, source: suite.jsonl, prompt: 'What colour is {{topic}}?'}"
    gate = "gate: {accept_unmeasured: [safety, drift]}"
    (tmp_path / "skillstack.yaml").write_text(f"base_model: nano\nbootstrap: true\nevaluation: {{suites: [{suite}]}}\n{gate}\n")
    return tmp_path


def test_doctor_leaves_nothing_behind(folder: Path) -> None:
    before = tree(folder)
    code, answer = look(folder, "doctor")
    assert code == 0, answer
    assert tree(folder) == before


def test_doctor_downloads_no_model(folder: Path) -> None:
    (folder / "skillstack.yaml").write_text("base_model: somebody/some-model\n")
    before = tree(folder)
    _, answer = look(folder, "doctor")
    assert "is not on this machine yet" in json.dumps(answer)
    assert "was asked for" not in json.dumps(answer)
    assert tree(folder) == before


def test_validate_leaves_nothing_behind(folder: Path) -> None:
    before = tree(folder)
    _, answer = look(folder, "validate", "drop.jsonl", "--skill", "sums")
    assert answer.get("manifest") or answer.get("error"), answer
    assert "was asked for" not in str(answer)
    assert tree(folder) == before
