"""Watch the inbox: each new file starts a round.

    skillstack watch [--once]

One run of the flow checks twice, `settle_seconds` apart, takes the files that did not change in between, and starts a round for each: in
this process or, with `inbox.deployment`, as a run of that deployment. A round that was interrupted with its watcher is started again and
continues; rounds that failed before come after new files. If another process is checking the inbox, this one does nothing.
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
"""Largest number of starts of one drop's round."""

Wait = Annotated[float | None, Field(ge=0.0, description="seconds between the two checks; null: inbox.settle_seconds")]


class Refused(Record):
    """A file in the inbox that cannot be used, with the reason."""

    name: str
    error: str


class Watched(Record):
    """The result of one check: rounds that were started (with their outcome if they ran here), files that wait, files that were refused."""

    started: tuple[Taken, ...]
    waiting: tuple[str, ...]
    refused: tuple[Refused, ...]
    busy: bool = Field(False, description="another process was checking the inbox, so this one did nothing")


@flow(name="watch", flow_run_name=named("watch"), persist_result=False)
def watch(config: ConfigParameter, wait_seconds: Wait = None) -> Watched:
    """Take all complete new files of the inbox and start their rounds. Raises ConfigError if the inbox cannot be read."""
    inbox = Inbox(config)
    try:
        with inbox.lock:
            return _watch(config, inbox, config.inbox.settle_seconds if wait_seconds is None else wait_seconds)
    except Timeout:
        return Watched(started=(), waiting=(), refused=(), busy=True)


def _watch(config: SkillstackConfig, inbox: Inbox, wait: float) -> Watched:
    refused: list[Refused] = []
    left = [entry for entry in inbox.entries().values() if entry.outcome == "taken"]
    started = [_start(config, inbox, entry) for entry in left if entry.tries < 2]  # interrupted by a kill
    arrivals = inbox.look()
    if arrivals and len(inbox.settled(arrivals)) < len(arrivals) and wait > 0:
        time.sleep(wait)  # the interval that the second check compares over, not a wait for a condition
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
        except Exception as error:  # one bad file must not delay the others
            refused.append(Refused(name=arrival.name, error=_line(error)))
            say(f"refused {_line(error)}", style="red")
            continue
        if entry is not None:
            yield entry


def _start(config: SkillstackConfig, inbox: Inbox, entry: Taken) -> Taken:
    """Start the round of a taken drop. An error of the round is recorded, so that it does not delay the next drop.

    After a temporary failure or a kill the next checks start it again, at most MAX_TRIES times in all; after other failures they do not.
    """
    if entry.tries >= MAX_TRIES:
        what = f"was started {entry.tries} times and did not end; last: {entry.detail}"
        items = f" --heldout {entry.heldout}" if entry.heldout else ""
        return inbox.record(entry, "failed", f"{what} (skillstack round {entry.drop} --skill {entry.skill}{items})")
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
    """Create a run of the deployment on the Prefect server, one per drop: for the same drop again, the existing run is returned."""
    from prefect.deployments import run_deployment
    from prefect.exceptions import ObjectNotFound

    if not os.environ.get("PREFECT_API_URL"):
        raise ConfigError("inbox.deployment", "needs a Prefect server", "set PREFECT_API_URL, or remove inbox.deployment")
    parameters = {"drop": str(entry.drop), "skill": entry.skill, "heldout": str(entry.heldout) if entry.heldout else None}
    key = text_digest(" ".join(part for part in entry.key if part))
    try:
        asked = run_deployment(config.inbox.deployment, parameters=parameters, timeout=0, idempotency_key=key, as_subflow=False)
    except ObjectNotFound as error:
        raise ConfigError(f"inbox.deployment {config.inbox.deployment}", "is not on the Prefect server", "skillstack deploy") from error
    return f"flow run {cast('FlowRun', asked).id}"  # the type includes a coroutine, which a synchronous flow does not get


def _line(error: Exception) -> str:
    """One line: the message of an expected error; type and message of another one."""
    text = " ".join(str(error).split())[:500]
    return text if isinstance(error, SkillstackError) else f"{type(error).__name__}: {text}"
