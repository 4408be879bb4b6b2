"""A round that a person cancels in training: nothing of it runs on, the record says so, and a new start goes on from what was saved."""

from __future__ import annotations

from typing import Any

import pytest

from flows.lineage import current_champion, read_history, verify_lineage

pytestmark = pytest.mark.services

CANCELLING = {"type": "CANCELLING", "name": "Cancelling", "message": "a person pressed cancel"}


@pytest.fixture(scope="module")
def project(new_project: Any, deployed: Any, workers: Any) -> Any:
    """Its rounds train for dozens of steps, so that they are met in training."""
    return new_project("cancelled", train={"num_epochs": 6, "effective_batch_size": 8, "learning_rate": 5e-4})


def steps(project: Any) -> int:
    return sum(event["event"] == "step" for event in project.events())


def test_cancelling_ends_every_process_and_the_round_resumes(project: Any, processes_of: Any) -> None:
    drop = str(project.drop("route", 7, rows=300))
    run = project.submit("continual-round/round", drop=drop, skill="route")
    project.wait_for(lambda: steps(project) >= 4, "training")
    assert len(processes_of(run)) >= 2, "the flow run and its trainer are sessions of their own"
    project.post(f"/flow_runs/{run}/set_state", state=CANCELLING)
    assert project.ended(run)["state_type"] == "CANCELLED"
    project.wait_for(lambda: not processes_of(run), "every process of the cancelled run to be gone", seconds=120.0)

    record = read_history(project.lineage)[-1]
    assert (record.skill, record.status, record.version) == ("route", "failed", None)
    assert "Terminat" in record.error
    assert current_champion(project.lineage).round == 0, "the champion stays"
    assert not list(project.stages.glob("train/*/manifest.json")), "it was still training"

    again = project.submit("continual-round/round", drop=drop, skill="route")
    assert project.ended(again)["state_type"] == "COMPLETED"
    assert any(event["event"] == "resumed" for event in project.events()), "training began again instead of resuming"
    record = read_history(project.lineage)[-1]
    assert (record.attempt, record.status) == (1, "finished")
    assert record.decision in ("PASS", "BLOCK", "INCONCLUSIVE")
    assert verify_lineage(project.lineage).ok
