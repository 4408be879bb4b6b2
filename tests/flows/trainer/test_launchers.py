"""One setting chooses where a training runs; whatever it is, it ends with its flow and gives back the engine's exit code."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_contracts.validate import validate_drop
from flows.base_models.resolve import NANO
from flows.config.launch import LaunchConfig
from flows.config.model import SkillstackConfig, TrainerConfig
from flows.trainer.kubernetes_job import job_name
from flows.trainer.launchers import trainer_command
from flows.trainer.process import run_trainer
from osft_engine.run import TrainRun

SECONDS = 30.0

# Stands in for kubectl: keeps what it was asked, and answers that the job ended as the file `end` says.
KUBECTL = """#!{python}
import json, pathlib, sys
folder = pathlib.Path({folder!r})
arguments = sys.argv[3:]
given = sys.stdin.read() if "-" in arguments else ""
with (folder / "asked").open("a") as asked:
    asked.write(json.dumps([arguments[0], given]) + "\\n")
if arguments[0] == "get":
    end = (folder / "end").read_text()
    print(json.dumps({{"status": {{"conditions": [{{"type": end, "status": "True"}}] if end else []}}}}))
if arguments[0] == "logs":
    print("error: the loss is nan at step 3")
"""


def wait_for(condition: Callable[[], bool]) -> None:
    pause, end = threading.Event(), time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "the condition was never reached"
        pause.wait(0.05)


def alive(pid: int) -> bool:
    """Neither gone nor a zombie that nobody has asked for yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose file `end` decides how jobs end: Complete, Failed, or empty for never."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    (folder / "end").write_text("Complete")
    program = folder / "kubectl"
    program.write_text(KUBECTL.format(python=sys.executable, folder=str(folder)))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def asked(cluster: Path) -> list[Any]:
    path = cluster / "asked"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_one_setting_chooses_the_command() -> None:
    run = Path("/state/run.json")
    assert trainer_command(LaunchConfig(), run, parent=7)[1:] == ["-m", "osft_engine", str(run), "--parent", "7"]
    many = trainer_command(LaunchConfig(kind="torchrun", processes=4), run, parent=7)
    assert many[many.index("--nproc-per-node") + 1] == "4"
    assert many[-3:] == ["-m", "osft_engine", str(run)]
    job = trainer_command(LaunchConfig(kind="kubernetes", processes=2), run, parent=7)
    assert LaunchConfig.model_validate_json(job[-2]).processes == 2
    assert SkillstackConfig.model_validate({"launch": {"kind": "torchrun", "processes": 8}}).launch.processes == 8


def test_a_killed_flow_takes_its_trainers_with_it(tmp_path: Path) -> None:
    """The parent dies by SIGKILL and can tell nobody; the keeper notices."""
    child = f"import os, pathlib, time; pathlib.Path({str(tmp_path / 'child')!r}).write_text(str(os.getpid())); time.sleep(600)"
    keep = f"[sys.executable, '-m', 'flows.trainer.keeper', '--parent', str(os.getpid()), '--', sys.executable, '-c', {child!r}]"
    parent = subprocess.Popen([sys.executable, "-c", f"import os, subprocess, sys; subprocess.Popen({keep}).wait()"])
    wait_for(lambda: (tmp_path / "child").exists() and bool((tmp_path / "child").read_text()))
    pid = int((tmp_path / "child").read_text())
    parent.kill()
    parent.wait()
    wait_for(lambda: not alive(pid))


@pytest.mark.parametrize(("end", "status"), [("Complete", 0), ("Failed", 1)])
def test_a_train_job_gives_back_how_it_ended(cluster: Path, tmp_path: Path, end: str, status: int) -> None:
    (cluster / "end").write_text(end)
    line = trainer_command(LaunchConfig(kind="trainjob", nodes=2, processes=4), tmp_path / "run.json", parent=os.getpid())
    done = subprocess.run(line, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == status, done.stderr
    assert [verb for verb, _ in asked(cluster)] == ["delete", "apply", "get", "logs"]
    job = json.loads(asked(cluster)[1][1])
    assert (job["kind"], job["metadata"]["name"]) == ("TrainJob", job_name(tmp_path / "run.json"))
    assert job["spec"]["trainer"]["command"] == ["torchrun", "-m", "osft_engine", str(tmp_path / "run.json")]
    assert job["spec"]["trainer"]["numNodes"] == 2
    assert done.stderr.strip().splitlines()[-1] == "error: the loss is nan at step 3", "the engine's last line is the flow's reason"


@pytest.mark.parametrize(("end", "status"), [("Complete", 0), ("Failed", 1)])
def test_a_kubernetes_job_gives_back_how_it_ended(cluster: Path, tmp_path: Path, end: str, status: int) -> None:
    (cluster / "end").write_text(end)
    line = trainer_command(LaunchConfig(kind="kubernetes"), tmp_path / "run.json", parent=os.getpid())
    done = subprocess.run(line, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == status, done.stderr
    assert [verb for verb, _ in asked(cluster)] == ["delete", "apply", "get", "logs"]
    job = json.loads(asked(cluster)[1][1])
    assert job["metadata"]["name"] == job_name(tmp_path / "run.json")
    assert job["spec"]["template"]["spec"]["containers"][0]["command"][-1] == str(tmp_path / "run.json")
    assert done.stderr.strip().splitlines()[-1] == "error: the loss is nan at step 3", "the engine's last line is the flow's reason"


def test_a_cancelled_round_deletes_its_job(cluster: Path, tmp_path: Path) -> None:
    (cluster / "end").write_text("")
    line = trainer_command(LaunchConfig(kind="kubernetes"), tmp_path / "run.json", parent=os.getpid())
    process = subprocess.Popen(line, stderr=subprocess.DEVNULL)
    wait_for(lambda: "get" in [verb for verb, _ in asked(cluster)])
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=SECONDS)
    assert [verb for verb, _ in asked(cluster)][-1] == "delete"


@pytest.mark.slow
def test_two_processes_under_torchrun_train_a_candidate(tmp_path: Path) -> None:
    from flows.demo.materials import write_drop
    from flows.text.renderer import TokenizerRenderer

    drop = write_drop("route", tmp_path / "route.jsonl", rows=120)
    config = SkillstackConfig.model_validate(
        {"train": {"num_epochs": 1, "effective_batch_size": 16, "num_threads": 1, "protect": "weights", "learning_rate": 1e-3}}
    )
    renderer = TokenizerRenderer(NANO, config.train)
    validate_drop(drop, tmp_path / "drop", skill="route", config=config.contract, renderer=renderer)
    run = TrainRun(base=NANO, drop=tmp_path / "drop", skill="route", out_dir=tmp_path / "out", config=config.train)
    events: list[dict[str, Any]] = []
    run_trainer(run, events.append, LaunchConfig(kind="torchrun", processes=2), TrainerConfig())
    assert (tmp_path / "out" / "manifest.json").exists()
    assert sum(event["event"] == "step" for event in events) > 1
