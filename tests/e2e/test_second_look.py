"""A round that the first look holds is judged once more on the number of items that was fixed, promoted, and replayed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

pytestmark = pytest.mark.slow

FIRST = 20


def test_what_the_first_look_holds_the_second_promotes_and_replay_repeats(workspace: Any) -> None:
    """20 + 20 items cannot rule out a loss of 2 points though none changes; 60 + 60 can. Alpha is large because the training is short."""
    suites = [{**suite, "items": FIRST} for suite in workspace.values["evaluation"]["suites"]]
    gate = {"min_items": 10, "alpha": 0.2}
    workspace.write_config(evaluation={"suites": suites}, gate=gate, train={"learning_rate": 3e-3, "num_epochs": 4})
    hidden = {"MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}

    def command(*arguments: str) -> dict[str, Any]:
        line = [sys.executable, "-m", "flows.cli.app", *arguments, "--json"]
        done = subprocess.run(line, cwd=workspace.folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    assert command("round", str(workspace.drop), "--skill", "route")["decision"] == "PASS"
    stored = [json.loads(path.read_text()) for path in workspace.folder.glob(".skillstack/stages/decide/*/manifest.json")]
    [first] = [verdict for verdict in stored if "first_look" not in verdict]
    [second] = [verdict for verdict in stored if "first_look" in verdict]
    assert first["decision"] == "INCONCLUSIVE"
    names = [suite["name"] for suite in suites]
    assert {name: second["first_look"][name] for name in names} == dict.fromkeys(names, FIRST)
    [general] = [each for each in second["checks"] if (each["check"], each["subject"]) == ("non_inferiority", "general suites")]
    assert (general["n"], general["outcome"], second["attempts"]) == (120, "pass", 1)
    assert command("gate", "replay", "1")["equal"] is True
