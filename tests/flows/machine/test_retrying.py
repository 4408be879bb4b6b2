"""Tried again is only what may pass: the connection that dropped, not the mistake that stays one."""

from __future__ import annotations

import pytest
import requests
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import OperationalError

from data_contracts.errors import ConfigError, LineageError, TrainingError
from flows.lineage.storage.connection import speaking_plainly
from flows.machine.retrying import TrainerHungError, may_pass


def lineage_error(raised: Exception, *, handled: Exception | None = None) -> LineageError:
    """What the lineage makes of an error of MLflow, which its client may have raised while it handled another."""

    def fail() -> None:
        if handled is None:
            raise raised
        try:
            raise handled
        except type(handled):
            raise raised  # noqa: B904  (as MLflow's client does)

    with pytest.raises(LineageError) as caught, speaking_plainly("somewhere"):
        fail()
    return caught.value


def test_what_may_pass() -> None:
    assert may_pass(lineage_error(OperationalError("SELECT 1", {}, Exception("server closed the connection"))))
    assert may_pass(lineage_error(requests.ConnectionError("refused")))
    assert may_pass(lineage_error(MlflowException("API request failed"), handled=requests.ConnectionError("refused")))
    assert may_pass(TrainerHungError("training", "is silent"))
    assert may_pass(ConnectionResetError())


def test_what_stays() -> None:
    assert not may_pass(lineage_error(MlflowException("no such run")))
    assert not may_pass(ConfigError("here", "is wrong"))
    assert not may_pass(TrainingError("training", "loss is not finite"))
    assert not may_pass(MemoryError())
