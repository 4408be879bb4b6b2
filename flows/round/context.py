"""The value that is passed from stage to stage of a round, and the options of the stages' Prefect tasks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect.cache_policies import NO_CACHE

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
