"""Whatever is wrong with a round, it ends in one line and exit code 1, the champion stays, and the failure is on record."""

from __future__ import annotations

import functools
import gzip
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from data_contracts.errors import SkillstackError
from flows.config.model import load_config
from flows.lineage import current_champion, read_history
from flows.workspace.workspace import open_workspace


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does."""
    environment = {
        name: value for name, value in os.environ.items() if name not in {"MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME"}
    }
    line = [sys.executable, "-m", "flows.cli.app", *arguments]
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Any:
    """A lineage whose champion is the base: what a bad round must leave as it is."""
    from flows.round.base import ensure_champion

    workspace_type = request.getfixturevalue("workspace_type")
    workspace = workspace_type(tmp_path_factory.mktemp("started"))
    ensure_champion(open_workspace(load_config(workspace.write_config())))
    return workspace


GOOD = json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}).encode() + b"\n"


@pytest.mark.parametrize(
    ("drop", "changes", "words"),
    [
        pytest.param(lambda w: str(w.folder / "absent.jsonl"), {}, ["absent.jsonl"], id="missing drop"),
        pytest.param(b"", {}, ["broken.jsonl", "empty"], id="empty drop"),
        pytest.param(GOOD * 3 + b'{"messages": \xff\xfe}\n', {}, ["broken.jsonl", "4"], id="not UTF-8"),
        pytest.param(GOOD + b'{"messages": [{"role": "bot"\n', {}, ["broken.jsonl", "2"], id="malformed JSON"),
        pytest.param(None, {"train": {"learning_rate": 1e30, "max_grad_norm": 0}}, ["loss", "nan", "step"], id="training diverges"),
        pytest.param(
            None, {"evaluation": {"suites": [{"name": "none", "source": "empty.jsonl"}]}}, ["empty.jsonl"], id="suite with no items"
        ),
        pytest.param(None, {"calibration": "absent-text.jsonl"}, ["absent-text.jsonl"], id="missing calibration text"),
    ],
)
def test_a_bad_round_fails_in_one_line_and_leaves_the_champion(started: Any, drop: Any, changes: dict[str, Any], words: list[str]) -> None:
    from flows.round.flow import continual_round

    (started.folder / "empty.jsonl").write_text("")
    if isinstance(drop, bytes):
        path = started.folder / "broken.jsonl"
        path.write_bytes(drop)
    else:
        path = Path(drop(started)) if drop else started.drop
    config = load_config(started.write_config("bad.yaml", **changes))
    with pytest.raises(SkillstackError) as raised:
        continual_round(path, "route", config)
    line = str(raised.value)
    assert "\n" not in line
    for word in words:
        assert word in line
    lineage = open_workspace(config).lineage
    champion = current_champion(lineage)
    assert champion is not None
    assert champion.round == 0
    newest = max((record for record in read_history(lineage) if record.round == 1), key=lambda record: record.attempt)
    assert newest.status == "failed"
    assert newest.error == line
    assert not list(config.state_dir.glob("stages/train/*/manifest.json"))


def test_a_refused_drop_is_named_as_it_was_typed(started: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from flows.cli.app import app
    from flows.cli.errors import run

    (started.folder / "june").mkdir()
    (started.folder / "june" / "broken.jsonl").write_bytes(GOOD + b'{"messages": [{"role": "bot"\n')
    config = started.write_config("typed.yaml")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{load_config(config).state_dir.absolute()}/mlflow.db")
    monkeypatch.chdir(started.folder / "june")
    for typed in ("broken.jsonl", "absent.jsonl"):
        assert run(app, ["round", typed, "--skill", "route", "--config", str(config)]) == 1
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        assert errors[0].startswith(f"error: {typed}:"), errors[0]


def test_a_full_disk_in_training_is_one_line_and_the_round_goes_on_when_there_is_room(
    started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit on the size of files stands in for the full disk; only the trainer has it, so that the failure can be put on record."""
    from flows.round.flow import continual_round

    config = load_config(started.write_config("small.yaml", train={"seed": 5}))
    with monkeypatch.context() as patch:
        limited = functools.partial(subprocess.Popen, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000)))
        patch.setattr("flows.trainer.process.subprocess.Popen", limited)
        with pytest.raises(SkillstackError, match="disk is full"):
            continual_round(started.drop, "route", config)
    lineage = open_workspace(config).lineage
    failed = max((record for record in read_history(lineage) if record.round == 1), key=lambda record: record.attempt)
    assert failed.status == "failed"
    assert "disk is full" in (failed.error or "")
    assert not list(config.state_dir.glob("stages/train/*/manifest.json"))
    outcome = continual_round(started.drop, "route", config)
    assert outcome.attempt == failed.attempt
    assert outcome.version == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train": {"learning_rat": 1}}, ["train.learning_rat", "learning_rate"]),
        ({"base_model": "./no-such-model"}, ["no-such-model", "base_model"]),
        ({"bootstrap": False}, ["champion", "bootstrap"]),
    ],
)
def test_a_config_that_cannot_be_used_says_what_to_do(workspace: Any, changes: dict[str, Any], words: list[str]) -> None:
    config = workspace.write_config(**changes)
    result = command(workspace.folder, "round", str(workspace.drop), "--skill", "route", "--config", str(config), "--json")
    assert result.returncode == 1
    error = json.loads(result.stdout)["error"]
    for word in words:
        assert word in " ".join(error.values())


def test_a_usage_error_is_not_mistaken_for_a_blocked_round(tmp_path: Path) -> None:
    assert command(tmp_path, "round").returncode == 1


def test_a_compressed_drop_is_read(workspace: Any) -> None:
    packed = workspace.folder / "route.jsonl.gz"
    packed.write_bytes(gzip.compress(workspace.drop.read_bytes()))
    result = command(workspace.folder, "validate", str(packed), "--skill", "route", "--config", str(workspace.write_config()), "--json")
    answer = json.loads(result.stdout)
    assert result.returncode == 0, answer
    assert answer["manifest"]["rows_read"] == len(workspace.drop.read_text().splitlines())
