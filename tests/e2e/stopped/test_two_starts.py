"""The same round started twice at once in a project that has no state yet: one process does the work, the other says who does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flows.lineage import read_history, verify_lineage

pytestmark = pytest.mark.slow
DEADLINE_SECONDS = 600.0


def start(workspace: Any, config: Path) -> subprocess.Popen[str]:
    hidden = {"MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME", "UVICORN_LOG_CONFIG", "SKILLSTACK_SERVER_OWNER"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    command = [sys.executable, "-m", "flows.cli.app", "round", str(workspace.drop), "--skill", "route", "--config", str(config), "--json"]
    return subprocess.Popen(
        command, cwd=workspace.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
    out, err = process.communicate(timeout=DEADLINE_SECONDS)
    assert "Traceback" not in err, err
    answer: dict[str, Any] = json.loads(out)
    return process.returncode, answer


def test_of_two_first_starts_one_works_and_the_other_names_it(workspace: Any) -> None:
    from flows.config.model import load_config
    from flows.workspace.workspace import open_workspace

    config = workspace.write_config()
    processes = [start(workspace, config) for _ in range(2)]
    answers = [(process.pid, *ended(process)) for process in processes]
    outcomes = [answer for _, code, answer in answers if code != 1]
    assert outcomes, answers
    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert (outcomes[0]["round"], outcomes[0]["attempt"], outcomes[0]["version"]) == (1, 1, 2)
    working = next(pid for pid, code, _ in answers if code != 1)
    for _, code, answer in answers:
        if code == 1:
            assert f"is running already (process {working} " in answer["error"]["what"], answer
    code, again = ended(start(workspace, config))
    assert (code != 1, again) == (True, outcomes[0]), "whoever was refused gets the outcome by the same command"

    lineage = open_workspace(load_config(config)).lineage
    records = read_history(lineage)
    assert [(record.round, record.attempt, record.version, record.status) for record in records] == [
        (0, 1, 1, "finished"), (1, 1, 2, "finished"),
    ]  # fmt: skip
    assert len(lineage.client.search_model_versions(f"name='{lineage.model_name}'")) == 2, "the base was registered once"
    assert records[1].parent_version == 1
    checked = verify_lineage(lineage)
    assert checked.ok, checked.findings
    assert len(list((workspace.folder / ".skillstack").glob("stages/train/*/manifest.json"))) == 1
