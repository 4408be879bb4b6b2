"""What must be set before a test module is imported: Prefect reads its settings when it is, long before any fixture runs."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from flows.machine.environment import OFFLINE_AND_QUIET
from osft_engine import config

# As in the product: the embedded server needs more than Prefect's 20 s where two workers share two cores with anything else.
_PATIENCE = "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"
os.environ.setdefault(_PATIENCE, OFFLINE_AND_QUIET[_PATIENCE])


# Text of people that a terminal, Markdown or HTML would take for something else.
HOSTILE = (
    "closes [/b] what nobody opened",
    "[red]red[/red] [link=https://evil.test]click[/link]",
    ":smile: :warning:",
    "<script>alert(1)</script> <img src=x onerror=alert(1)>",
    "a | b | c\n| d | e |\n\n# Heading",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J",
    "right\u202eto left",
    "snake_case _em_ __strong__ a*b*c",
    "[click](javascript:alert(1)) `code` **bold** ~~gone~~ ![x](y)",
)


@pytest.fixture
def hostile_texts() -> tuple[str, ...]:
    return HOSTILE


@pytest.fixture(params=HOSTILE)
def hostile(request: pytest.FixtureRequest) -> str:
    """One of them: the test runs with each."""
    return str(request.param)


@pytest.fixture(autouse=True)
def _addresses_kept() -> Iterator[None]:
    """A command that runs in this process sets the addresses that are not set; the next test has a lineage of its own."""
    names = ("MLFLOW_TRACKING_URI", "PREFECT_API_URL")
    before = {name: os.environ[name] for name in names if name in os.environ}
    yield
    for name in names:
        os.environ.pop(name, None)
    os.environ.update(before)


@pytest.fixture(autouse=True)
def _stays_alive() -> Iterator[None]:
    """A test of a command calls `run`: `leave` ends its process, here some tests later and without a word."""
    yield
    assert "exit-deadline" not in {thread.name for thread in threading.enumerate()}


@pytest.fixture(autouse=True)
def _one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings of this process take one pass where a test does not say how many: few tests are about how long a training is."""
    monkeypatch.setattr(config, "STEPS_TO_LEARN", 1)
