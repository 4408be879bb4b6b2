"""A Kubernetes job gives back how it ended, and is deleted with its round."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.config.launch import LaunchConfig
from flows.trainer.kubernetes_job import job_name
from flows.trainer.launchers import trainer_command

SECONDS = 30.0


@pytest.mark.parametrize(("end", "status"), [("Complete", 0), ("Failed", 1)])
def test_a_kubernetes_job_gives_back_how_it_ended(
    cluster: Path, asked: Callable[[], list[Any]], tmp_path: Path, end: str, status: int
) -> None:
    (cluster / "end").write_text(end)
    line = trainer_command(LaunchConfig(kind="kubernetes"), tmp_path / "run.json", parent=os.getpid())
    done = subprocess.run(line, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == status, done.stderr
    assert [verb for verb, _ in asked()] == ["delete", "apply", "get", "logs"]
    job = json.loads(asked()[1][1])
    assert job["metadata"]["name"] == job_name(tmp_path / "run.json")
    assert job["spec"]["template"]["spec"]["containers"][0]["command"][-1] == str(tmp_path / "run.json")
    assert done.stderr.strip().splitlines()[-1] == "error: the loss is nan at step 3", "the engine's last line is the flow's reason"


def test_a_cancelled_round_deletes_its_job(
    cluster: Path, asked: Callable[[], list[Any]], wait_for: Callable[[Callable[[], bool]], None], tmp_path: Path
) -> None:
    (cluster / "end").write_text("")
    line = trainer_command(LaunchConfig(kind="kubernetes"), tmp_path / "run.json", parent=os.getpid())
    process = subprocess.Popen(line, stderr=subprocess.DEVNULL)
    wait_for(lambda: "get" in [verb for verb, _ in asked()])
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=SECONDS)
    assert [verb for verb, _ in asked()][-1] == "delete"
