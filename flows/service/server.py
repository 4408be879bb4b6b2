"""The round as an operated service: what the deployments are scheduled by, the one slot for the GPU, and what is told when a round ends.

Nothing here does anything without a Prefect server (PREFECT_API_URL): a laptop has no slots to share and nobody to tell.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from data_contracts.errors import SkillstackError

if TYPE_CHECKING:
    from flows.outcome import RoundOutcome

DROP_VALIDATED = "skillstack.drop.validated"
ROUND_ENDED = {"PASS": "skillstack.round.promoted", "INCONCLUSIVE": "skillstack.round.held", "BLOCK": "skillstack.round.blocked"}
ROUND_UNMEASURED = "skillstack.round.unmeasured"
ZOMBIE = "skillstack-zombie"
HEARTBEAT_VARIABLE = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
TAG = "skillstack"
"""Tag of every deployment and, by it, of its flow runs: the automations match nothing else on a server that others use too."""
OF_SKILLSTACK = {"prefect.resource.id": f"prefect.tag.{TAG}", "prefect.resource.role": "tag"}
END_STATES = {"PASS": "Completed", "BLOCK": "Blocked", "INCONCLUSIVE": "Held", "ERROR": "Unmeasured"}
"""Name of a flow run's last state, by the round's decision."""
TIMEOUT_SECONDS = 10


class ServiceConfig(BaseModel):
    """Schedules, pools and slots; `skillstack deploy` puts them on the Prefect server. Addresses and secrets are environment variables."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cron: str = Field("0 6 1 * *", description="when the monthly look into the inbox and the monthly audit run")
    timezone: str = Field("UTC", description="IANA name of the time zone of the schedules, as Europe/Berlin")
    watch_cron: str = Field("*/5 * * * *", description="how often the inbox is looked into between the monthly runs")
    watch: bool = Field(True, description="look into the inbox by watch_cron; false: only by the monthly run and by announced drops")
    gpu_pool: str = Field("gpu", description="work pool of rounds, sweeps and re-evaluations")
    cpu_pool: str = Field("cpu", description="work pool of what needs no GPU: watching, decisions, audits")
    gpu_limit: str = Field("skillstack-gpu", description="global concurrency limit that a round holds while it uses the GPU; empty: none")
    gpu_slots: int = Field(1, ge=1, description="rounds that may use a GPU at the same time (limit of the pool and of the slots)")
    lease_seconds: float = Field(120.0, ge=60.0, description="a holder that does not renew its slot for so long has lost it (seconds)")
    heartbeat_seconds: float = Field(
        120.0,
        ge=60.0,
        description="a flow run without a heartbeat for so long is marked crashed (seconds); it beats two to four times in that",
    )

    @property
    def beat_seconds(self) -> int:
        """Seconds between two heartbeats of a flow run: a fourth of the window that the automation waits, and Prefect's least is 30."""
        return max(30, int(self.heartbeat_seconds // 4))


def has_server() -> bool:
    return bool(os.environ.get("PREFECT_API_URL"))


@contextmanager
def gpu_slot(config: ServiceConfig) -> Iterator[None]:
    """Hold one of the GPU's slots; wait where all are taken. Raises where the server has no such limit (`skillstack deploy` makes it).

    The slot is leased: it comes back by itself when the holder dies. A server that is away for a while ends nobody's round, so that a lease
    which cannot be renewed is told in the log only; the compare in the promotion keeps two rounds apart even then.
    """
    if not (config.gpu_limit and has_server()):
        yield
        return
    from prefect.concurrency.sync import concurrency

    with concurrency(config.gpu_limit, strict=True, lease_duration=config.lease_seconds, raise_on_lease_renewal_failure=False):
        yield


def prefect_api(method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
    """One answer of the Prefect server's API; None where it has no such thing. Raises SkillstackError where it refuses or is away."""
    import httpx

    from flows.lineage.connection import hide_password

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
    """Tell the server that a drop keeps its contract; the trigger of the deployment `round` starts its round."""
    payload = {"drop": str(drop), "skill": skill, "sha256": sha256}
    _emit(DROP_VALIDATED, f"skillstack.drop.{sha256}", f"{skill}: {drop.name}", payload)


def announce_outcome(outcome: RoundOutcome, model_name: str) -> None:
    """Tell the server how a round of the registered model ended; the automations send it to people."""
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
