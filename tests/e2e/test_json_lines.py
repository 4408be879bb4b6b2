"""A real round with SKILLSTACK_LOG_FORMAT=json: every line of the command, of Prefect and of the trainer says what it is about."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

KEYS = {"time", "level", "logger", "round", "stage", "skill", "message"}
STAGES = ("validate", "train", "evaluate", "audit", "decide", "register")
SECRET = "pl4nted-word"
OTHERS = ("PREFECT_", "MLFLOW_", "SKILLSTACK_", "UVICORN_")


def lines_of(text: str) -> list[dict[str, Any]]:
    """Every line, parsed; the test fails at the first that is no JSON object with all keys."""
    found = [json.loads(line) for line in text.splitlines()]
    assert all(set(each) >= KEYS for each in found)
    return found


def test_every_line_of_a_round_names_round_stage_and_skill(workspace: Any) -> None:
    config = workspace.write_config()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OTHERS)}
    environment |= {"MLFLOW_TRACKING_PASSWORD": SECRET, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "flows.cli", "--log-format", "json", "round", str(workspace.drop), "--skill", "route"]
    done = subprocess.run(
        [*command, "--config", str(config)], cwd=workspace.folder, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode in (0, 2, 3), done.stderr[-2000:]
    said = lines_of(done.stderr)
    for stage in STAGES:
        told = [each for each in said if each["stage"] == stage]
        assert {(each["round"], each["skill"]) for each in told} == {(1, "route")}, stage
        messages = [each["message"] for each in told]
        assert f"{stage} begins" in messages
        assert any(message.startswith(f"{stage} ended after ") for message in messages), stage
        assert "prefect.task_runs" in {each["logger"] for each in told}, "what Prefect says of the stage is among them"
    opened = [each["stage"] for each in said].index("validate")
    closed = max(number for number, each in enumerate(said) if each["stage"] == "register")
    assert {each["round"] for each in said[opened : closed + 1]} == {1}
    [log] = (workspace.folder / ".skillstack" / "stages" / "train").glob("*/train.log")
    trained = lines_of(log.read_text())
    assert {(each["round"], each["stage"], each["skill"]) for each in trained} == {(1, "train", "route")}
    own = [each["message"] for each in trained if each["logger"] == "osft_engine"]
    assert own == ["training of route begins", "training of route ended"]
    assert SECRET not in done.stderr + log.read_text()


def test_an_error_of_a_command_is_a_line_too(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flows.cli", "history", "--config", str(tmp_path / "none.yaml")]
    environment = {**os.environ, "SKILLSTACK_LOG_FORMAT": "json"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False)
    [line] = lines_of(done.stderr)
    assert done.returncode == 1
    assert line["level"] == "ERROR"
    assert "none.yaml" in line["message"]
