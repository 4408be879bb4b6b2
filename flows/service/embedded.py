"""Stop Prefect's embedded server when the process that started it ends.

Prefect stops it in an exit handler, which does not run after SIGKILL or SIGTERM, so the server kept running. The server is a uvicorn
process that reads its logging configuration from the file in UVICORN_LOG_CONFIG (set by flows/machine/environment.py); loading that
configuration starts the thread below, before the server itself is imported.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from contextlib import suppress

from flows.service.embedded_database import make_database_whole

WATCH_SECONDS = 0.5
GRACE_SECONDS = 5.0
OWNER = "SKILLSTACK_SERVER_OWNER"
"""Variable with the id of the process that prepared the environment: it may end before the thread starts."""


def watching_handler() -> logging.Handler:
    """The handler of the logging configuration, which drops everything; creating it starts the thread and makes the database."""
    end_with_parent()
    with suppress(Exception):  # the server then makes its database itself, and says what is wrong
        make_database_whole()
    return logging.NullHandler()


def end_with_parent() -> None:
    """From now on this process ends when the one that started it is gone."""
    parent, owner = os.getppid(), os.environ.get(OWNER, "")
    orphan = owner not in ("", str(parent)) and not _lives(owner)  # the parent ended before the thread started
    threading.Thread(target=_end_with, args=(0 if orphan else parent,), name="end-with-parent", daemon=True).start()


def _end_with(parent: int) -> None:
    """Wait until the parent process has ended (an orphan gets another parent), then stop this process: SIGTERM, later a hard exit."""
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
