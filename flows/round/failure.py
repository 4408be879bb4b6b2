"""Record a round that stops as failed, with the cause of the failure."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from data_contracts.errors import SkillstackError
from flows.lineage import RoundRun, record_failure
from flows.machine.disk import naming_disk_errors
from flows.workspace.workspace import Workspace

logger = logging.getLogger(__name__)


@contextmanager
def failure_recorded(workspace: Workspace, run: RoundRun) -> Iterator[None]:
    """Record the round as failed, with one line, for any exception; then raise it again."""
    try:
        with naming_disk_errors(workspace.config.state_dir):
            yield
    except SkillstackError as error:
        _record(workspace, run, str(error))
        raise
    except BaseException as error:
        _record(workspace, run, f"{type(error).__name__}: {error}")
        raise


def _record(workspace: Workspace, run: RoundRun, line: str) -> None:
    """The exception of the round must reach the user, so a failure to record it is only logged."""
    try:
        record_failure(workspace.lineage, run, line)
    except Exception as error:
        logger.warning("round %s could not be recorded as failed: %s", run.round, error)
