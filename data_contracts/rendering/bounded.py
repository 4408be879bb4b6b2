"""A time limit for third-party code: a chat template is a program, and one that loops must not stop a round.

Templates run as Python bytecode in this thread, so that an exception set from outside reaches them (signals would reach the main thread
only, and a process for each row costs more than everything else). What runs inside one C call is not reached until it returns.

The limit is on the thread's processor time: on a machine with much else to do, a template that works waits for seconds without running.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class TooSlowError(Exception):
    """The body has used its time."""


class _Deadlines:
    """One thread that watches all running limits; it sleeps while there are none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._awake = threading.Event()
        self._running: dict[int, tuple[int, float]] = {}  # thread -> its clock, and the time on it when it must be done
        self._fired: set[int] = set()
        self._watcher: threading.Thread | None = None

    def start(self, thread: int, seconds: float) -> None:
        clock = _clock_of(thread)
        with self._lock:
            self._running[thread] = (clock, time.clock_gettime(clock) + seconds)
            if self._watcher is None or not self._watcher.is_alive():
                self._watcher = threading.Thread(target=self._watch, name="template deadlines", daemon=True)
                self._watcher.start()
        self._awake.set()

    def stop(self, thread: int) -> bool:
        """End the limit; True if it had passed, so that its exception is about to be raised."""
        with self._lock:
            self._running.pop(thread, None)
            fired = thread in self._fired
            self._fired.discard(thread)
            return fired

    def _watch(self) -> None:
        while True:
            self._awake.wait()
            with self._lock:
                late = [thread for thread, (clock, end) in self._running.items() if time.clock_gettime(clock) >= end]
                for thread in late:
                    del self._running[thread]
                    self._fired.add(thread)
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(TooSlowError))
                if not self._running:
                    self._awake.clear()
            time.sleep(0.05)


def _clock_of(thread: int) -> int:
    """The clock of a running thread's processor time; the clock on the wall where the system has no such clock (macOS)."""
    return time.pthread_getcpuclockid(thread) if hasattr(time, "pthread_getcpuclockid") else time.CLOCK_MONOTONIC


_DEADLINES = _Deadlines()


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TooSlowError in the body once it has used `seconds` of processor time. Not to be nested in one thread.

    The body has to be a call: on Python 3.13 the jump back to the beginning of a loop has no entry in its frame's table of handlers, so an
    exception which arrives there leaves the frame at once, past its `with` and `except`. In the frame of a caller it is caught.
    """
    thread = threading.get_ident()
    _DEADLINES.start(thread, seconds)
    try:
        yield
    finally:
        if _DEADLINES.stop(thread):
            _receive()


def _receive() -> None:
    """Wait for an exception that was sent while the body was ending, so that it does not hit what comes after."""
    with suppress(TooSlowError):
        _wait()


def _wait() -> None:
    """In a frame of its own, so that Python 3.13 catches what arrives between two turns of the loop (see `time_limit`)."""
    for _ in range(1000):
        time.sleep(0.001)
