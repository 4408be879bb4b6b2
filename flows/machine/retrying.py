"""Which failures are temporary: a server or network that does not answer, a training that hung or received SIGTERM.

Only these are retried.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from data_contracts.errors import TrainingError
from osft_engine.loop.stopping import TrainingStoppedError


class TrainerHungError(TrainingError):
    """The training wrote no file for too long and was killed. Its saved state is kept, so the next try resumes it."""


def may_pass(error: BaseException) -> bool:
    """Whether the same call may succeed a little later, judged by the error or by one of its causes."""
    from httpx import TransportError
    from requests import ConnectionError as NoConnection
    from requests import Timeout
    from sqlalchemy.exc import InterfaceError, OperationalError

    of_the_trainer = (TrainerHungError, TrainingStoppedError)
    of_a_server = (NoConnection, Timeout, TransportError, ConnectionError, TimeoutError, InterfaceError, OperationalError)
    return any(isinstance(each, of_the_trainer + of_a_server) for each in causes(error))


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error, its cause, and so on, or the error that was being handled (MLflow's client sets only that); outermost first."""
    at: BaseException | None = error
    while at is not None:
        yield at
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)


def retry_if_it_may_pass(_task: Any, _run: Any, state: Any) -> bool:
    """Retry condition of the tasks of a round, as Prefect calls it."""
    try:
        state.result()
    except Exception as error:
        return may_pass(error)
    return False
