"""The value that is passed from stage to stage of a round, and the options of the stages' Prefect tasks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE

from data_contracts.logs.lines import about
from flows.config.model import SkillstackConfig
from flows.lineage import Lineage, LiveStage, RoundRun, VersionRef, attach_files, log_stage
from flows.lineage.storage.records import Stage as StageName
from flows.machine.retrying import retry_if_it_may_pass
from flows.workspace.stages import Stage
from flows.workspace.workspace import Workspace

# Results are found by content (workspace/stages.py) and verified, which Prefect's cache of pickled results could not do.
STAGE: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "persist_result": False,
    "retries": 2,
    "retry_delay_seconds": [5, 60],
    "retry_condition_fn": retry_if_it_may_pass,
}


P = ParamSpec("P")
R = TypeVar("R")
logger = logging.getLogger(__name__)


def stage_task(name: str, run_name: str | None = None, tags: Sequence[str] = ()) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a stage of a round a Prefect task whose log lines name the stage (data_contracts/logs/lines.py)."""

    def made(function: Callable[P, R]) -> Task[P, R]:
        @wraps(function)
        def logged(*arguments: P.args, **named: P.kwargs) -> R:
            with about(stage=name):
                logger.info("%s begins", name)
                began = time.perf_counter()
                result = function(*arguments, **named)
                logger.info("%s ended after %.1f s", name, time.perf_counter() - began)
                return result

        return task(name=name, task_run_name=run_name, tags=list(tags), **STAGE)(logged)

    return made


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A drop and the champion to train on, without a run in the lineage: what a sweep uses.

    `chain` is the champion's ancestry, from the base model to the champion. `drop` is the user's file. `refresh`: the skill was taught
    before, by a version of the chain.
    """

    workspace: Workspace
    chain: Sequence[VersionRef]
    drop: Path
    skill: str
    heldout: Path | None = None
    scale: float = 1.0
    refresh: bool = False

    @property
    def config(self) -> SkillstackConfig:
        return self.workspace.config

    @property
    def lineage(self) -> Lineage:
        return self.workspace.lineage

    @property
    def champion(self) -> VersionRef:
        return self.chain[-1]

    @property
    def recorded(self) -> bool:
        return False

    def record(self, name: StageName, stage: Stage[Any], *artifacts: Path, since: float | None = None) -> None:
        """Record a finished stage that began at `since` (time.perf_counter())."""

    def attach(self, page: Path) -> None:
        """Keep a page among the artifacts of the round."""

    def live(self, name: StageName) -> AbstractContextManager[LiveStage | None]:
        """Show a stage in MLflow while it runs."""
        return nullcontext()


@dataclass(frozen=True, kw_only=True)
class Round(Trial):
    """A drop and the champion to train on, with a run in the lineage: one attempt at one round."""

    run: RoundRun

    @property
    def recorded(self) -> bool:
        return True

    def record(self, name: StageName, stage: Stage[Any], *artifacts: Path, since: float | None = None) -> None:
        seconds = None if since is None else time.perf_counter() - since
        log_stage(self.lineage, self.run, name, stage.manifest, stage.folder, artifacts=artifacts, seconds=seconds, code=stage.code)

    def attach(self, page: Path) -> None:
        attach_files(self.lineage, self.run, page)

    def live(self, name: StageName) -> AbstractContextManager[LiveStage | None]:
        return LiveStage(self.lineage, self.run, name, every=self.config.tracking.log_interval_seconds)
