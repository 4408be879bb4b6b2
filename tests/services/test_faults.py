"""Faults of the operated service: a round ends right with nothing lost and no finished stage made twice, or is marked failed and resumes
by one command.

Every outcome is written as a row of a table; docs/results/faults.md is made from it (set SKILLSTACK_FAULTS to the file to write).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.lineage import find_version, read_history, verify_lineage

pytestmark = pytest.mark.services

AWAY_SECONDS = 60.0


class Table:
    """What happened, as rows of Markdown."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, ...]] = []

    def add(self, fault: str, state: str, resumed: str, record: Any, seconds: float) -> None:
        end = f"{record.status}, {record.decision}" if record.decision else f"{record.status}: {record.error}"
        self.rows.append((fault, state, resumed, end, f"{seconds:.0f}"))

    def text(self) -> str:
        head = ("fault", "flow run after it", "what brought it to its end", "the round on record", "seconds in all")
        lines = [head, tuple("---" for _ in head), *self.rows]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Table]:
    made = Table()
    yield made
    path = Path(os.environ.get("SKILLSTACK_FAULTS") or tmp_path_factory.mktemp("faults") / "faults.md")
    path.write_text(made.text(), encoding="utf-8")


@pytest.fixture(scope="module")
def project(new_project: Any, deployed: Any, workers: Any) -> Any:
    """A lineage of its own whose champion is the base; its rounds train long enough to be met in training."""
    made = new_project("faults", train={"num_epochs": 2, "effective_batch_size": 16, "learning_rate": 5e-4})
    from flows.config.model import load_config
    from flows.round.base import ensure_champion
    from flows.workspace.workspace import open_workspace

    ensure_champion(open_workspace(load_config(made.config)))
    return made


class Round:
    """One round on the worker, and what it had finished when the fault came."""

    def __init__(self, project: Any, skill: str, seed: int) -> None:
        self.project, self.skill, self.started = project, skill, time.monotonic()
        self.before = set(self.manifests())
        self.events_before = len(project.events())
        self.run = project.submit("continual-round/round", drop=str(project.drop(skill, seed, rows=300)), skill=skill)
        self.finished: dict[Path, int] = {}

    def manifests(self) -> dict[Path, int]:
        """Finished stages and when they were written."""
        return {path: path.stat().st_mtime_ns for path in self.project.stages.glob("*/*/manifest.json")}

    def reach(self, condition: Callable[[], Any], what: str) -> None:
        """Wait for the moment of the fault; remember what is finished by then."""

        def here() -> bool:
            state = self.project.flow_run(self.run)
            assert state["state_type"] not in ("COMPLETED", "FAILED", "CRASHED"), f"ended before {what}: {state['state']['message']}"
            return bool(condition())

        self.project.wait_for(here, what)
        self.finished = {path: written for path, written in self.manifests().items() if path not in self.before}

    def training(self) -> bool:
        return sum(event["event"] == "step" for event in self.project.events()[self.events_before :]) >= 4

    def evaluating(self) -> bool:
        trained = [path for path in self.manifests() if path.parts[-3] == "train" and path not in self.before]
        return bool(trained) and bool(list(self.project.stages.glob("evaluate/*.partial")))

    def registering(self) -> bool:
        return any(path.parts[-3] == "decide" and path not in self.before for path in self.manifests())

    def record(self) -> Any:
        return next(record for record in reversed(read_history(self.project.lineage)) if record.skill == self.skill and record.round > 0)

    def check(self) -> Any:
        """The round is on record with a verdict and a verified version, and nothing that was finished was made again."""
        now = self.manifests()
        for path, written in self.finished.items():
            assert now[path] == written, f"{path} was made again"
        record = self.record()
        assert record.status == "finished", record.error
        assert record.decision in ("PASS", "BLOCK", "INCONCLUSIVE")
        find_version(self.project.lineage, record.version, verify=True)
        verified = verify_lineage(self.project.lineage)
        assert verified.ok, verified.findings
        return record

    def finish(self, table: Table, fault: str, command: str) -> None:
        """Wait for the end; where it is not the right one, give the one command that resumes it."""
        ended = self.project.ended(self.run)
        state, resumed = ended["state_name"], "nothing"
        if ended["state_type"] != "COMPLETED":
            failed = self.record()
            assert failed.champion is False
            self.resume()
            resumed = f"`{command}`"
            assert self.project.ended(self.run)["state_type"] == "COMPLETED"
        table.add(fault, state, resumed, self.check(), time.monotonic() - self.started)

    def resume(self) -> None:
        line = [sys.executable, "-m", "prefect", "--no-prompt", "flow-run", "retry", self.run]
        done = subprocess.run(line, env={**os.environ, **self.project.environment}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        self.project.wait_for(lambda: self.project.flow_run(self.run)["state_type"] in ("RUNNING", "COMPLETED"), "the retry to run")


RETRY = "prefect flow-run retry ID"


def test_the_worker_is_killed_in_training(project: Any, workers: Any, processes_of: Any, table: Table, messages: Any) -> None:
    """The machine is gone: nobody is there to say so, the heartbeat stops, the automation marks the run, one command resumes it."""
    a_round = Round(project, "route", 1)
    a_round.reach(a_round.training, "training")
    workers["gpu"].kill()
    for pid in processes_of(a_round.run):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    workers["gpu"].start()
    assert project.ended(a_round.run)["state_type"] == "CRASHED", "marked by the automation"
    told = project.wait_for(
        lambda: [each for each in messages[1] if f"prefect flow-run retry {a_round.run}" in each["body"]], "the message about it", 60
    )
    assert "is Crashed" in told[0]["body"]
    a_round.finish(table, "worker, its flow run and the trainer killed (SIGKILL) in training", RETRY)
    assert any(event["event"] == "resumed" for event in project.events()[a_round.events_before :]), "training began again"


@pytest.mark.slow
def test_the_trainer_alone_is_killed(project: Any, workers: Any, table: Table) -> None:
    """As the system does when memory runs out: the round fails with one line and resumes."""
    a_round = Round(project, "mood", 1)
    a_round.reach(a_round.training, "training")
    for pid in trainers(project):
        os.kill(pid, signal.SIGKILL)
    a_round.finish(table, "trainer killed (SIGKILL), as for want of memory", RETRY)


def trainers(project: Any) -> list[int]:
    """Processes of the engine that train for this project."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
            if b"osft_engine" in words and any(str(project.folder).encode() in word for word in words):
                found.append(int(entry.name))
    return found


def test_the_prefect_server_restarts_in_evaluation(project: Any, services: Any, table: Table) -> None:
    a_round = Round(project, "date", 1)
    a_round.reach(a_round.evaluating, "evaluation")
    services.prefect.kill()
    services.prefect.start()
    a_round.finish(table, "Prefect server killed and started again in evaluation", RETRY)


def test_the_database_restarts_in_registration(project: Any, services: Any, table: Table) -> None:
    a_round = Round(project, "double", 1)
    a_round.reach(a_round.registering, "registration")
    services.postgres.server.restart()
    a_round.finish(table, "PostgreSQL (of MLflow and Prefect) restarted in registration", RETRY)


def test_the_artifact_store_is_away_for_a_minute(project: Any, artifact_front: Any, table: Table) -> None:
    a_round = Round(project, "ends", 1)
    a_round.reach(a_round.training, "training")
    with artifact_front.closed():
        threading.Event().wait(AWAY_SECONDS)  # the fault itself
    a_round.finish(table, "artifact store away for a minute from training on", RETRY)
