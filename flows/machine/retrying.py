"""Which failures may pass by themselves: a server that is away, a network that drops, a trainer that hung or was asked to stop.

Nothing else is tried again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from data_contracts.errors import TrainingError
from osft_engine.loop.stopping import TrainingStoppedError


class TrainerHungError(TrainingError):
    """The trainer wrote nothing for too long and was ended. What it had saved is kept, so another try goes on from there."""


def may_pass(error: BaseException) -> bool:
    """Whether the same call may succeed a little later: by its own kind, or by the error that it was made from."""
    from httpx import TransportError
    from requests import ConnectionError as NoConnection
    from requests import Timeout
    from sqlalchemy.exc import InterfaceError, OperationalError

    of_the_trainer = (TrainerHungError, TrainingStoppedError)
    of_a_server = (NoConnection, Timeout, TransportError, ConnectionError, TimeoutError, InterfaceError, OperationalError)
    return any(isinstance(each, of_the_trainer + of_a_server) for each in causes(error))


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what it was raised from or while handling (MLflow's client says only that), outermost first."""
    at: BaseException | None = error
    while at is not None:
        yield at
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)


def retry_if_it_may_pass(_task: Any, _run: Any, state: Any) -> bool:
    """Prefect's retry condition for the tasks of a round."""
    try:
        state.result()
    except Exception as error:
        return may_pass(error)
    return False
