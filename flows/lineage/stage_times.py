"""How long each stage of a round took, as its runs in MLflow say."""

from __future__ import annotations

from typing import get_args

from flows.lineage.storage.connection import Lineage, plainly
from flows.lineage.storage.records import Stage
from flows.lineage.storage.tracking import tag


@plainly
def stage_seconds(lineage: Lineage, run_id: str) -> dict[Stage, float]:
    """Stage -> seconds, of a round's run. A stage that ran twice (a second look) counts with both, a reused one with its reading."""
    condition = f"tags.`mlflow.parentRunId` = '{run_id}'"
    found: dict[Stage, float] = {}
    for run in lineage.client.search_runs([lineage.experiment_id], condition):
        for stage in get_args(Stage):
            if tag(run, "stage") == stage and tag(run, "kind") == "stage" and run.info.end_time is not None:
                found[stage] = found.get(stage, 0.0) + (run.info.end_time - run.info.start_time) / 1000
    return found
