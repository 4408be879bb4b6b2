"""Two rounds at once share one GPU slot; two promoters at once, one champion; a dead holder gives its slot back."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest

from flows.lineage import current_champion, read_history, roll_back

pytestmark = pytest.mark.services

HOLDER = """
import sys, threading
from flows.config.service import ServiceConfig
from flows.workspace.server import gpu_slot
with gpu_slot(ServiceConfig(lease_seconds=60)):
    print("held", flush=True)
    threading.Event().wait()
"""


@pytest.fixture(scope="module")
def project(new_project: Any, deployed: Any, workers: Any) -> Any:
    """A lineage of its own whose champion is the base."""
    made = new_project("pair")
    from flows.config.model import load_config
    from flows.round.base import ensure_champion
    from flows.workspace.workspace import open_workspace

    ensure_champion(open_workspace(load_config(made.config)))
    return made


@pytest.fixture(scope="module")
def pair(project: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """One run through the worker, one from a shell beside it, both at once on the same champion."""
    first, second = project.drop("route"), project.drop("mood")
    run = project.submit("continual-round/round", drop=str(first), skill="route")
    project.wait_for(lambda: project.flow_run(run)["state_type"] == "RUNNING", "the first round to run")
    shell = project.command("round", str(second), "--skill", "mood", "--json")
    ended = project.ended(run)
    return ended, {"code": shell.returncode, "answer": json.loads(shell.stdout)}


def test_both_rounds_end_and_both_are_recorded(project: Any, pair: Any) -> None:
    ended, shell = pair
    records = {record.skill: record for record in read_history(project.lineage) if record.round == 1}
    assert set(records) == {"route", "mood"}
    assert {record.status for record in records.values()} <= {"finished", "failed"}
    winners = [record for record in records.values() if record.was_champion]
    losers = [record for record in records.values() if not record.was_champion]
    assert len(winners) <= 1, "one champion can be followed once"
    for record in losers:
        if record.decision == "PASS":
            assert "is champion now" in (record.error or ""), record.error
    assert ended["state_type"] in ("COMPLETED", "FAILED")
    assert shell["code"] in (0, 1, 2, 3)


def test_the_gpu_was_used_by_one_round_at_a_time(project: Any, pair: Any) -> None:
    spans = []
    for path in project.stages.glob("train/*/metrics.jsonl"):
        times = [json.loads(line).get("time") for line in path.read_text().splitlines()]
        stamps = [each for each in times if each is not None]
        spans.append((min(stamps), max(stamps)) if stamps else (path.stat().st_ctime, path.stat().st_mtime))
    tasks = project.post("/task_runs/filter", task_runs={"name": {"like_": "train"}})
    trained = sorted(
        (datetime.fromisoformat(each["start_time"]), datetime.fromisoformat(each["end_time"])) for each in tasks if each["end_time"]
    )
    assert len(spans) == 2
    for (_, ended), (started, _) in itertools.pairwise(trained):
        assert started >= ended, "two trainings overlapped"


def test_two_runs_in_the_pool_wait_for_each_other(project: Any, pair: Any) -> None:
    """Their drop is not there, so that they end soon; the pool runs them one at a time all the same."""
    runs = [project.submit("continual-round/round", drop=str(project.folder / "absent.jsonl"), skill="mood") for _ in range(2)]
    ended = sorted((project.ended(run) for run in runs), key=lambda run: run["start_time"])
    assert [run["state_type"] for run in ended] == ["FAILED", "FAILED"]
    assert "absent.jsonl" in ended[0]["state"]["message"]
    assert datetime.fromisoformat(ended[1]["start_time"]) >= datetime.fromisoformat(ended[0]["end_time"])


def test_people_are_told_of_the_failed_rounds(project: Any, pair: Any, messages: Any) -> None:
    def told() -> list[dict[str, Any]]:
        return [each for each in messages[1] if "failed" in each["subject"] and "absent.jsonl" in each["body"]]

    message = project.wait_for(told, "the message about a failed round", 60)[0]
    assert "prefect flow-run retry" in message["body"]


def test_a_holder_that_is_killed_gives_the_slot_back(project: Any) -> None:
    environment = {**os.environ, **project.environment}
    line = [sys.executable, "-c", HOLDER]

    def hold() -> subprocess.Popen[str]:
        return subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True)

    first = hold()
    second = None
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        first.kill()
        first.wait()
        second = hold()
        assert second.stdout is not None
        assert second.stdout.readline() == "held\n", "the slot of the dead holder came back"
    finally:
        for each in (first, second):
            if each is not None:
                each.kill()
                each.wait()


def test_of_two_promoters_one_wins_and_the_other_says_why_not(project: Any, pair: Any) -> None:
    """Two people approve two candidates of the same champion at the same moment, each from a process of their own."""
    versions = candidates(project)

    def approve(version: int) -> dict[str, Any]:
        done = project.command("approve", str(version), "--reviewer", f"of {version}", "--reason", "mine", "--override", "--json")
        return {"code": done.returncode, "answer": json.loads(done.stdout)}

    with ThreadPoolExecutor(2) as people:
        answers = list(people.map(approve, versions))
    assert sorted(each["code"] for each in answers) == [0, 1], answers
    loser = next(each for each in answers if each["code"] == 1)
    assert "is champion now" in loser["answer"]["error"]["what"]
    winner = versions[[each["code"] for each in answers].index(0)]
    champion = current_champion(project.lineage)
    assert champion is not None
    assert champion.version == winner


def candidates(project: Any) -> list[int]:
    """The two candidates of round 1, with the base champion again if one of them had been promoted."""
    lineage = project.lineage
    champion = current_champion(lineage)
    assert champion is not None
    if champion.version != 1:
        roll_back(lineage, 1, reason="the test begins with the base", actor="test")
    return [record.version for record in read_history(lineage) if record.round == 1 and record.version is not None]
