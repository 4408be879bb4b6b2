"""Prefect's embedded server ends with the process that it serves.

Prefect ends it from an exit handler, which neither SIGKILL nor SIGTERM runs: it stayed behind after each. Its process is a plain uvicorn,
which reads its logging configuration from a file that the environment names (UVICORN_LOG_CONFIG, set by flows/machine/environment.py);
loading that configuration starts the watch below, before the server itself is imported.
"""

from __future__ import annotations

import logging
import os
import signal
import threading

WATCH_SECONDS = 0.5
GRACE_SECONDS = 5.0
OWNER = "SKILLSTACK_SERVER_OWNER"
"""Process id of whoever prepared the environment: it may be gone before the server has begun to watch."""


def watching_handler() -> logging.Handler:
    """What the logging configuration asks for: a handler that drops everything, and the watch."""
    parent, owner = os.getppid(), os.environ.get(OWNER, "")
    orphan = owner not in ("", str(parent)) and not _lives(owner)  # the parent went before the watch began
    threading.Thread(target=_end_with, args=(0 if orphan else parent,), name="end-with-parent", daemon=True).start()
    return logging.NullHandler()


def _end_with(parent: int) -> None:
    """Wait until the parent is another one (an orphan is adopted), then end this process: asked first, and after a while made to."""
    pause = threading.Event()
    while os.getppid() == parent:
        pause.wait(WATCH_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    pause.wait(GRACE_SECONDS)
    os._exit(1)


def _lives(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (ValueError, PermissionError):
        return True
    return True
