"""Seconds per stage come from the runs in MLflow: a stage that ran twice counts with both."""

from __future__ import annotations

import pytest

from flows.lineage import Lineage, open_round
from flows.lineage.stage_times import stage_seconds

START = 1_760_000_000_000
"""Milliseconds, as MLflow keeps times."""


def add(lineage: Lineage, parent: str, stage: str, begin: float, end: float | None, kind: str = "stage") -> None:
    """A run below `parent`, from `begin` to `end` in seconds after START."""
    tags = {"mlflow.parentRunId": parent, "skillstack.stage": stage, "skillstack.kind": kind}
    run = lineage.client.create_run(lineage.experiment_id, start_time=START + round(1000 * begin), tags=tags)
    if end is not None:
        lineage.client.set_terminated(run.info.run_id, end_time=START + round(1000 * end))


def test_stages_are_summed_and_what_has_not_ended_does_not_count(lineage: Lineage) -> None:
    run, other = open_round(lineage, 1, "sql", key="a"), open_round(lineage, 2, "csv", key="b")
    add(lineage, run.run_id, "train", 0, 12.5)
    add(lineage, run.run_id, "evaluate", 20, 50)
    add(lineage, run.run_id, "evaluate", 60, 75)  # a second look
    add(lineage, run.run_id, "decide", 80, None)
    add(lineage, run.run_id, "train", 0, 99, kind="live")
    add(lineage, other.run_id, "train", 0, 7)
    assert stage_seconds(lineage, run.run_id) == pytest.approx({"train": 12.5, "evaluate": 45})
    assert stage_seconds(lineage, other.run_id) == pytest.approx({"train": 7})
