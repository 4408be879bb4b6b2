"""Watch the inbox: a new file in it starts a round.

    skillstack watch [--once]

One run of the flow looks twice, `settle_seconds` apart, takes what did not change in between, and starts a round for each: here, or
where `inbox.deployment` names one, as a run of that deployment. A round that a killed watcher left behind is started again and continues;
one that has failed before comes after what is new. Where another look is under way, this one leaves the inbox to it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, cast

from filelock import Timeout
from prefect import flow
from pydantic import Field

from data_contracts.digests import text_digest
from data_contracts.errors import ConfigError, SkillstackError
from data_contracts.manifests import Record
from flows.config.model import SkillstackConfig
from flows.config.parameters import ConfigParameter, named
from flows.inbox.box import Arrival, Inbox, Taken
from flows.machine.progress import say
from flows.machine.retrying import may_pass
from flows.round.flow import continual_round

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

MAX_TRIES = 5
"""How often the round of one drop is started."""

Wait = Annotated[float | None, Field(ge=0.0, description="seconds to wait for the second look; null: inbox.settle_seconds")]


class Refused(Record):
    """A file in the inbox that cannot become a round, with the reason."""

    name: str
    error: str


class Watched(Record):
    """What one look did: rounds that were started (and how they ended, if they ran here), files that wait, files that were refused."""

    started: tuple[Taken, ...]
    waiting: tuple[str, ...]
    refused: tuple[Refused, ...]
    busy: bool = Field(False, description="another look was under way, which sees the same files: this one did nothing")


def _name_of_watch() -> str:
    return named("watch")


@flow(name="watch", flow_run_name=_name_of_watch, persist_result=False)
def watch(config: ConfigParameter, wait_seconds: Wait = None) -> Watched:
    """Take every whole new file of the inbox and start its round. Raises ConfigError where the inbox cannot be read."""
    inbox = Inbox(config)
    try:
        with inbox.lock:
            return _watch(config, inbox, config.inbox.settle_seconds if wait_seconds is None else wait_seconds)
    except Timeout:
        return Watched(started=(), waiting=(), refused=(), busy=True)


def _watch(config: SkillstackConfig, inbox: Inbox, wait: float) -> Watched:
    refused: list[Refused] = []
    left = [entry for entry in inbox.entries().values() if entry.outcome == "taken"]
    started = [_start(config, inbox, entry) for entry in left if entry.tries < 2]  # cut off by a kill
    arrivals = inbox.look()
    if arrivals and len(inbox.settled(arrivals)) < len(arrivals) and wait > 0:
        time.sleep(wait)  # what the second look is compared over, not a wait for something to happen
        arrivals = inbox.look()
    whole = inbox.settled(arrivals)
    started += [_start(config, inbox, entry) for entry in _take(inbox, whole, refused)]
    started += [_start(config, inbox, entry) for entry in left if entry.tries >= 2]
    waiting = tuple(each.name for each in arrivals if each not in whole)
    return Watched(started=tuple(started), waiting=waiting, refused=tuple(refused))


def _take(inbox: Inbox, whole: list[Arrival], refused: list[Refused]) -> Iterator[Taken]:
    for arrival in whole:
        try:
            entry = inbox.take(arrival)
        except Exception as error:  # one file, whatever is wrong with it, must not keep the others waiting
            refused.append(Refused(name=arrival.name, error=_line(error)))
            say(f"refused {_line(error)}", style="red")
            continue
        if entry is not None:
            yield entry


def _start(config: SkillstackConfig, inbox: Inbox, entry: Taken) -> Taken:
    """Start the round of a taken drop. What a round raises is its own record, and must not keep the next drop waiting.

    What may pass by itself, and what a kill cut off, is started again by the next looks, MAX_TRIES times in all; nothing else is.
    """
    if entry.tries >= MAX_TRIES:
        what = f"was begun {entry.tries} times and has not ended; last: {entry.detail}"
        return inbox.record(entry, "failed", f"{what} (skillstack round {entry.drop} --skill {entry.skill})")
    entry = inbox.begin(entry)
    say(f"{entry.skill} from {entry.name}", style="bold")
    try:
        if config.inbox.deployment:
            return inbox.record(entry, "started", _submit(config, entry))
        outcome = continual_round(entry.drop, entry.skill, config, entry.heldout)
    except Exception as error:
        return inbox.record(entry, "taken" if may_pass(error) else "failed", _line(error))
    return inbox.record(entry, "ended", f"{outcome.decision.value}: version {outcome.version}")


def _submit(config: SkillstackConfig, entry: Taken) -> str:
    """Ask the Prefect server for a run of the deployment, once a drop: the same drop asked for again gives the run that is there."""
    from prefect.deployments import run_deployment
    from prefect.exceptions import ObjectNotFound

    if not os.environ.get("PREFECT_API_URL"):
        raise ConfigError("inbox.deployment", "needs a Prefect server", "set PREFECT_API_URL, or empty inbox.deployment")
    parameters = {"drop": str(entry.drop), "skill": entry.skill, "heldout": str(entry.heldout) if entry.heldout else None}
    key = text_digest(f"{entry.sha256} {entry.skill}")
    try:
        asked = run_deployment(config.inbox.deployment, parameters=parameters, timeout=0, idempotency_key=key, as_subflow=False)
    except ObjectNotFound as error:
        raise ConfigError(f"inbox.deployment {config.inbox.deployment}", "is not on the Prefect server", "skillstack deploy") from error
    return f"flow run {cast('FlowRun', asked).id}"  # Prefect's stubs allow for a coroutine, which a synchronous flow does not get


def _line(error: Exception) -> str:
    """One line for a person: an expected error says it all, another one at least its kind."""
    text = " ".join(str(error).split())[:500]
    return text if isinstance(error, SkillstackError) else f"{type(error).__name__}: {text}"
