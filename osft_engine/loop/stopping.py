"""Asked to stop (SIGTERM, SIGINT): a training ends its step, saves its whole state and exits, so that the same run goes on from there.

A machine that is taken away gives about 30 seconds; the state of a step is written in one move, so that the last seconds lose nothing.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from data_contracts.errors import TrainingError

STOPPED = 75
"""Exit code of a training that was asked to stop and can go on (EX_TEMPFAIL: try again later)."""


class TrainingStoppedError(TrainingError):
    """The training was asked to stop; its state is saved."""


class StopSignal:
    """Whether this process was asked to stop. Outside of `at_a_step` the process then ends at once: what is unfinished is made again."""

    def __init__(self) -> None:
        self.asked = False
        self._waits = False

    def listen(self) -> StopSignal:
        """Take the signals of this process; only a process of the trainer's own may do so."""
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, self._take)
        return self

    @contextmanager
    def at_a_step(self) -> Iterator[None]:
        """Inside, a signal only sets `asked`, and the training stops between two steps."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False

    def _take(self, number: int, _: FrameType | None) -> None:
        self.asked = True
        if not self._waits:
            raise SystemExit(STOPPED)
