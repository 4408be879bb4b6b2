"""What the automations match: flow runs of skillstack only, no healthy one. On a real server: tests/services/test_bare_worker.py."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from prefect.server.events.schemas.automations import EventTrigger
from prefect.server.events.schemas.events import ReceivedEvent

from flows.config.service import ServiceConfig
from flows.service.automations import ENDED, notifications, zombie_automation
from flows.service.deployments import PREFECT_FILE
from flows.workspace.server import END_STATES, HEARTBEAT_VARIABLE, TAG


def event(name: str, tags: tuple[str, ...]) -> ReceivedEvent:
    """As Prefect writes it: the flow run, and its tags as related resources."""
    run = f"prefect.flow-run.{uuid.uuid4()}"
    related = [{"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"} for tag in tags]
    flow = {
        "prefect.resource.id": f"prefect.flow.{uuid.uuid4()}",
        "prefect.resource.role": "flow",
        "prefect.resource.name": "continual-round",
    }
    values: dict[str, Any] = {"resource": {"prefect.resource.id": run}, "related": [flow, *related]}
    return ReceivedEvent(id=uuid.uuid4(), event=name, occurred=datetime.now(UTC), **values)


def server_side(automation: Any) -> EventTrigger:
    return EventTrigger.model_validate(automation.trigger.model_dump(mode="json") | {"id": uuid.uuid4()})


def test_the_zombie_rule_covers_runs_of_skillstack_and_of_nobody_else() -> None:
    trigger = server_side(zombie_automation(ServiceConfig()))
    assert trigger.covers(event("prefect.flow-run.heartbeat", (TAG, "gpu")))
    assert not trigger.covers(event("prefect.flow-run.heartbeat", ())), "another team's flow on the same server"
    assert not trigger.covers(event("prefect.flow-run.heartbeat", ("gpu",)))


def test_failures_of_other_flows_are_not_sent_to_our_people() -> None:
    failed = server_side(notifications(uuid.uuid4())[0])
    assert failed.covers(event("prefect.flow-run.Failed", (TAG,)))
    assert not failed.covers(event("prefect.flow-run.Failed", ("theirs",)))


@pytest.mark.parametrize("name", [*END_STATES.values(), "Failed", "Cancelled"])
def test_every_way_in_which_a_round_ends_stops_the_watch_for_its_heartbeat(name: str) -> None:
    trigger = server_side(zombie_automation(ServiceConfig()))
    assert trigger.expects(f"prefect.flow-run.{name}")
    assert f"prefect.flow-run.{name}" in ENDED


def test_every_deployment_beats_at_the_interval_that_deploy_chose_and_carries_the_tag() -> None:
    """Prefect's own interval, 180 s, is longer than the window: a worker that is started plainly must not decide it."""
    for deployment in yaml.safe_load(PREFECT_FILE.read_text())["deployments"]:
        environment = deployment["work_pool"]["job_variables"]["env"]
        assert environment[HEARTBEAT_VARIABLE] == "{{ $SKILLSTACK_BEAT_SECONDS }}", deployment["name"]
        assert environment["SKILLSTACK_LOG_FORMAT"] == "{{ $SKILLSTACK_LOG_FORMAT }}", deployment["name"]
        assert TAG in deployment["tags"], deployment["name"]
