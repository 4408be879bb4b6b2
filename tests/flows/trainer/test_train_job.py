"""A TrainJob gives back how it ended."""

from __future__ import annotations

import json
import os
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
def test_a_train_job_gives_back_how_it_ended(cluster: Path, asked: Callable[[], list[Any]], tmp_path: Path, end: str, status: int) -> None:
    (cluster / "end").write_text(end)
    line = trainer_command(LaunchConfig(kind="trainjob", nodes=2, processes=4), tmp_path / "run.json", parent=os.getpid())
    done = subprocess.run(line, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == status, done.stderr
    assert [verb for verb, _ in asked()] == ["delete", "apply", "get", "logs"]
    job = json.loads(asked()[1][1])
    assert (job["kind"], job["metadata"]["name"]) == ("TrainJob", job_name(tmp_path / "run.json"))
    assert job["spec"]["trainer"]["command"] == ["torchrun", "-m", "osft_engine", str(tmp_path / "run.json")]
    assert job["spec"]["trainer"]["numNodes"] == 2
    assert done.stderr.strip().splitlines()[-1] == "error: the loss is nan at step 3", "the engine's last line is the flow's reason"
