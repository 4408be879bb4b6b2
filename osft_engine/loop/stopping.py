"""SIGTERM and SIGINT: a training finishes its step, saves its state and exits, so that the same run goes on from there.

A machine that is taken away gives about 30 seconds' notice. The file of the state is replaced atomically, so that a kill during the save
keeps the state before it.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from data_contracts.errors import TrainingError

STOPPED = 75
"""Exit code of a training that was stopped by a signal and can go on (EX_TEMPFAIL: try again later)."""


class TrainingStoppedError(TrainingError):
    """The training was stopped by a signal; its state is saved."""


class StopSignal:
    """Whether this process received a signal to stop. Outside of `at_a_step` it exits at once; the next run repeats what was unfinished."""

    def __init__(self) -> None:
        self.received = False
        self._waits = False

    def listen(self) -> StopSignal:
        """Handle this process's signals; only the trainer's separate process may do so."""
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, self._take)
        return self

    @contextmanager
    def at_a_step(self) -> Iterator[None]:
        """Inside, a signal only sets `received`, and the training stops between two steps."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False

    def _take(self, number: int, _: FrameType | None) -> None:
        self.received = True
        if not self._waits:
            raise SystemExit(STOPPED)
