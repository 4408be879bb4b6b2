"""Automations of the Prefect server, for flow runs of skillstack only: mark a dead run as crashed, and send a message when a run crashed,
failed, was blocked or is held."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from flows.config.service import ServiceConfig
from flows.workspace.server import END_STATES, OF_SKILLSTACK, ROUND_ENDED, ROUND_UNMEASURED, ZOMBIE

if TYPE_CHECKING:
    from prefect.automations import AutomationCore
    from prefect.client.orchestration import PrefectClient

WEBHOOK_BLOCK = "skillstack-notify"
HEARTBEAT = "prefect.flow-run.heartbeat"
# Events are named after states, so the names of the final states of rounds are among the ends.
ENDED = frozenset(f"prefect.flow-run.{state}" for state in (*END_STATES.values(), "Failed", "Cancelled", "Crashed", "Cancelling"))
RESUME = "To continue after its last finished stage: prefect flow-run retry {{ flow_run.id }}"


def zombie_automation(service: ServiceConfig) -> AutomationCore:
    """Mark a flow run as crashed when its heartbeats stop because its process has ended; this frees its place in the work pool.

    The timeout must fit the interval of the heartbeats: `deploy` derives both from `service.heartbeat_timeout_seconds`.
    """
    from prefect.automations import AutomationCore, ChangeFlowRunState, EventTrigger, Posture, ResourceSpecification
    from prefect.client.schemas.objects import StateType

    return AutomationCore(
        name=ZOMBIE,
        description="Marks a flow run as crashed when its process has ended.",
        trigger=EventTrigger(
            after={HEARTBEAT},
            expect={HEARTBEAT, *ENDED},
            match=ResourceSpecification.model_validate({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=ResourceSpecification.model_validate(OF_SKILLSTACK),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=service.heartbeat_timeout_seconds),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message="its heartbeats stopped: a retry continues it")],
    )


def notifications(block: UUID) -> tuple[AutomationCore, ...]:
    """Messages to the webhook: when a flow run fails or crashes, and when a round ends without a promotion."""
    from prefect.automations import AutomationCore, EventTrigger, Posture, ResourceSpecification, SendNotification

    def message(
        name: str, expect: set[str], resource: str, subject: str, body: str, related: dict[str, str] | None = None
    ) -> AutomationCore:
        match = ResourceSpecification.model_validate({"prefect.resource.id": resource})
        also = ResourceSpecification.model_validate(related or {})
        trigger = EventTrigger(expect=expect, match=match, match_related=also, posture=Posture.Reactive, threshold=1, within=timedelta(0))
        return AutomationCore(name=name, trigger=trigger, actions=[SendNotification(block_document_id=block, subject=subject, body=body)])

    unsettled = {event for event in ROUND_ENDED.values() if event != ROUND_ENDED["PASS"]} | {ROUND_UNMEASURED}
    state = "{{ flow_run.name }} is {{ flow_run.state.name }}: {{ flow_run.state.message }}"
    held = "version {{ event.payload.version }}: {{ event.payload.reason }}\nWhat to try next:\n{{ event.payload.next }}"
    return (
        message(
            "skillstack-failed",
            {"prefect.flow-run.Failed", "prefect.flow-run.Crashed"},
            "prefect.flow-run.*",
            "skillstack: {{ flow_run.name }} failed",
            f"{state}\n{RESUME}",
            OF_SKILLSTACK,
        ),
        message(
            "skillstack-held",
            unsettled,
            "skillstack.version.*",
            "skillstack: {{ event.resource.name }} is {{ event.payload.decision }}",
            held,
        ),
    )


async def put_webhook(client: PrefectClient, url: str) -> UUID:
    """Save the notification block. The URL is a secret of the block, encrypted by the server and in no file."""
    from prefect.blocks.notifications import CustomWebhookNotificationBlock
    from prefect.types import SecretDict

    block = CustomWebhookNotificationBlock(
        name="skillstack",
        url="{{address}}",
        json_data={"text": "{{subject}}\n{{body}}", "subject": "{{subject}}", "body": "{{body}}"},
        secrets=SecretDict({"address": url}),
    )
    return await block.asave(WEBHOOK_BLOCK, overwrite=True, client=client)


async def put_automations(client: PrefectClient, automations: Sequence[AutomationCore]) -> None:
    """Create the automations; existing ones of the same name are replaced."""
    for automation in automations:
        for found in await client.read_automations_by_name(automation.name):
            await client.delete_automation(found.id)
        await client.create_automation(automation)
