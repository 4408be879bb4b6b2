"""Containers of the stack are killed and started again in each stage of a round: the round ends as one that nobody disturbed.

In each round another container is killed in each stage; the six rounds together are every container in every stage. Where a round does not
go on by itself, the command that the message about it names (`prefect flow-run retry ID`) must bring it on, and nothing else is done.
SKILLSTACK_RESTARTS=0,3 limits a run to some of the rounds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

CONTAINERS = ("postgres", "worker-gpu", "prefect", "minio", "mlflow", "worker-cpu")
CHOSEN = [int(each) for each in os.environ.get("SKILLSTACK_RESTARTS", "0,1,2,3,4,5").split(",")]


@pytest.fixture(scope="module")
def quiet(deployed: Any, restarts: Any) -> Iterator[Any]:
    """The stack with what the rounds read, without a look into the inbox every minute."""
    restarts.write_materials(deployed)
    watch(deployed, on=False)
    yield deployed
    watch(deployed, on=True)


def watch(stack: Any, *, on: bool) -> None:
    user, _, password = stack.environment["PREFECT_SERVER_API_AUTH_STRING"].partition(":")
    with httpx.Client(base_url=f"http://127.0.0.1:{stack.ports[1]}/api", auth=(user, password), timeout=60) as client:
        found = client.get("/deployments/name/watch/inbox").raise_for_status().json()
        client.post(f"/deployments/{found['id']}/{'resume' if on else 'pause'}_deployment").raise_for_status()


@pytest.fixture(scope="module")
def undisturbed(quiet: Any, restarts: Any, measured: dict[str, str]) -> Any:
    """What comes of the round when nothing is restarted."""
    a_round = restarts.WatchedRound(quiet, "undisturbed")
    a_round.finish()
    found = a_round.outcome()
    assert found["verified"]
    measured["a round without a restart"] = f"{time.monotonic() - a_round.began:.0f} s, {found['verdict']['decision']}"
    return found


@pytest.mark.parametrize("number", CHOSEN)
def test_a_killed_container_changes_no_outcome(
    quiet: Any, restarts: Any, request: pytest.FixtureRequest, measured: dict[str, str], number: int
) -> None:
    a_round = restarts.WatchedRound(quiet, f"disturbed-{number}")
    plan = {stage: CONTAINERS[(at + number) % len(CONTAINERS)] for at, stage in enumerate(restarts.STAGES)}
    a_round.kill_in_stages(plan)
    measured[f"round {number} of restarts"] = f"{'; '.join(a_round.log)} ({time.monotonic() - a_round.began:.0f} s)"
    assert len(a_round.log) == len(plan)
    assert a_round.outcome() == request.getfixturevalue("undisturbed")
