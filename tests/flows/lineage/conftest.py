"""Commands of the lineage in a process that dies after any of its writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from flows.lineage import Lineage

# A process that dies after its n-th write to MLflow: the write is done, and nothing after it.
_WRITES = ("create_", "set_", "log_", "delete_", "update_", "finalize_")


class Killed(BaseException):
    """The process is gone. No `except Exception` sees it, and every further call of the dead process raises it again."""


class DyingClient:
    def __init__(self, client: Any, after: int) -> None:
        self._client, self._left, self.writes = client, after, 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        return self._counted(found, name.startswith(_WRITES)) if callable(found) else found

    def _counted(self, call: Callable[..., Any], writes: bool) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            if self._left == 0:
                raise Killed
            result = call(*args, **kwargs)
            if writes:
                self._left -= 1
                self.writes += 1
                if self._left == 0:
                    raise Killed
            return result

        return counted


def dying(lineage: Lineage, after: int) -> Lineage:
    """The same lineage in a process that dies after so many writes."""
    client: Any = DyingClient(lineage.client, after)
    return replace(lineage, client=client)


def survives(lineage: Lineage, after: int, command: Callable[[Lineage], Any]) -> bool:
    """Whether the command ends before its n-th write; else it is killed there."""
    twin = dying(lineage, after)
    try:
        command(twin)
    except Killed:
        return False
    client: Any = twin.client
    assert client.writes < after, "the command swallowed its own death"
    return True


@pytest.fixture(params=[5, pytest.param(1, marks=pytest.mark.slow)], ids=["every fifth write", "every write"])
def stride(request: pytest.FixtureRequest) -> int:
    """Writes between two kills: every write is killed after where slow tests run."""
    return int(request.param)


@pytest.fixture
def kill_everywhere(stride: int) -> Callable[..., None]:
    """kill(lineage, command, check): kill `command(lineage, n)` after a write, run it again, and check what the second run answered; so for
    every fifth write there is (every one where slow tests run). `n` counts the kills from 1. The command must make `least` writes."""

    def kill(lineage: Lineage, command: Callable[[Lineage, int], Any], check: Callable[[int, Any], None], least: int) -> None:
        for number in range(1, 100):
            after = 1 + (number - 1) * stride
            ended = survives(lineage, after, lambda twin, n=number: command(twin, n))  # type: ignore[misc]
            check(number, command(lineage, number))
            if ended:
                assert after > least, f"fewer than {after} writes were found to kill after"
                return
        pytest.fail("the command never came to its end")

    return kill
