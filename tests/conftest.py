"""What must be set before a test module is imported: Prefect reads its settings when it is, long before any fixture runs."""

from __future__ import annotations

import os

import pytest

from flows.machine.environment import OFFLINE_AND_QUIET
from osft_engine import config

# As in the product: the embedded server needs more than Prefect's 20 s where two workers share two cores with anything else.
_PATIENCE = "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"
os.environ.setdefault(_PATIENCE, OFFLINE_AND_QUIET[_PATIENCE])


@pytest.fixture(autouse=True)
def _one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings of this process take one pass where a test does not say how many: few tests are about how long a training is."""
    monkeypatch.setattr(config, "STEPS_TO_LEARN", 1)
