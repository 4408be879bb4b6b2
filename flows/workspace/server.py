"""The Prefect server of a service: names of events and states, the concurrency limit for the GPU, and events when a round ends.

Without a server (PREFECT_API_URL) nothing here does anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_contracts.errors import SkillstackError
from flows.config.service import ServiceConfig

if TYPE_CHECKING:
    from flows.workspace.outcome import RoundOutcome

DROP_VALIDATED = "skillstack.drop.validated"
ROUND_ENDED = {"PASS": "skillstack.round.promoted", "INCONCLUSIVE": "skillstack.round.held", "BLOCK": "skillstack.round.blocked"}
ROUND_UNMEASURED = "skillstack.round.unmeasured"
ZOMBIE = "skillstack-zombie"
HEARTBEAT_VARIABLE = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
TAG = "skillstack"
"""Tag of every deployment and so of its flow runs: the automations match only these, also on a shared server."""
OF_SKILLSTACK = {"prefect.resource.id": f"prefect.tag.{TAG}", "prefect.resource.role": "tag"}
END_STATES = {"PASS": "Completed", "BLOCK": "Blocked", "INCONCLUSIVE": "Held", "ERROR": "Unmeasured"}
"""Name of a flow run's final state for each decision."""
TIMEOUT_SECONDS = 10


def has_server() -> bool:
    return bool(os.environ.get("PREFECT_API_URL"))


@contextmanager
def gpu_slot(config: ServiceConfig) -> Iterator[None]:
    """Hold a slot of the GPU limit; wait while all are in use. Raises if the server has no such limit (`skillstack deploy` creates it).

    The slot is leased: it is released when its holder dies. A server that does not answer for a while must not end a round, so a lease that
    cannot be renewed is only logged; the promotion's check of the champion protects against two rounds at once even then.
    """
    if not (config.gpu_limit and has_server()):
        yield
        return
    from prefect.concurrency.sync import concurrency

    with concurrency(config.gpu_limit, strict=True, lease_duration=config.lease_seconds, raise_on_lease_renewal_failure=False):
        yield


def prefect_api(method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
    """One answer of the Prefect server's API; None for 404. Raises SkillstackError if the server refuses or does not answer."""
    import httpx

    from flows.lineage.storage.connection import hide_password

    url = os.environ["PREFECT_API_URL"].rstrip("/")
    user, _, password = os.environ.get("PREFECT_API_AUTH_STRING", "").partition(":")
    key = os.environ.get("PREFECT_API_KEY")
    where = hide_password(url)
    try:
        answer = httpx.request(
            method,
            url + path,
            json=body or {} if method == "POST" else None,
            auth=(user, password) if user else None,
            headers={"Authorization": f"Bearer {key}"} if key else None,
            timeout=TIMEOUT_SECONDS,
        )
        if answer.status_code in (401, 403):
            raise SkillstackError(where, f"Prefect refuses these credentials ({answer.status_code})", "set PREFECT_API_AUTH_STRING")
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        return answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise SkillstackError(where, f"no Prefect server answers: {error}", "start it, or correct PREFECT_API_URL") from error


def announce_drop(drop: Path, skill: str, sha256: str) -> None:
    """Send the event that a drop keeps its contract; the trigger of the deployment `round` starts the round."""
    payload = {"drop": str(drop), "skill": skill, "sha256": sha256}
    _emit(DROP_VALIDATED, f"skillstack.drop.{sha256}", f"{skill}: {drop.name}", payload)


def announce_outcome(outcome: RoundOutcome, model_name: str) -> None:
    """Send the event with the outcome of a round; the automations turn it into messages."""
    event = ROUND_ENDED.get(outcome.decision.value, ROUND_UNMEASURED)
    name = f"{model_name}, round {outcome.round}: {outcome.skill}"
    payload = outcome.model_dump(include={"round", "skill", "version", "champion", "lost"}, mode="json")
    payload |= {"model": model_name, "decision": outcome.decision.value, "reason": outcome.reasons[0], "next": "\n".join(outcome.next)}
    _emit(event, f"skillstack.version.{model_name}.{outcome.version}", name, payload)


def _emit(event: str, resource: str, name: str, payload: Mapping[str, object]) -> None:
    if not has_server():
        return
    from prefect.events import emit_event

    emit_event(event=event, resource={"prefect.resource.id": resource, "prefect.resource.name": name}, payload=dict(payload))
