"""Metrics of a running training in MLflow: its nested run exists from the first step and becomes the run of the finished stage.

A thread sends the points in batches, so that a slow server does not delay the training. A failed batch is sent again with the next one;
points that are still missing at the end are read from the training's metrics file when the stage is logged.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from data_contracts.errors import LineageError
from flows.lineage.storage.connection import PREFIX, Lineage, speaking_plainly
from flows.lineage.storage.records import RoundRun, Stage
from flows.lineage.storage.tracking import find_live_runs, last_step, stage_name, user_name

if TYPE_CHECKING:
    from mlflow.entities import Metric

CURVES = ("loss", "lr", "tokens_per_second")
_BATCH = 900  # at most 1000 values per request

logger = logging.getLogger(__name__)


class LiveStage:
    """The nested run of a stage in progress. A context manager, which sends the remaining points at its end."""

    def __init__(self, lineage: Lineage, parent: RoundRun, stage: Stage, every: float) -> None:
        self._lineage, self._every = lineage, every
        self.run_id = open_live_run(lineage, parent, stage)
        self._last = last_step(lineage, self.run_id)
        self._waiting: list[Metric] = []
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._send_until_ended, name=f"mlflow {stage}", daemon=True)

    def __enter__(self) -> LiveStage:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def add(self, step: int, event: Mapping[str, Any]) -> None:
        """Add one logged step. Steps that an interrupted start of this training has sent already are ignored."""
        from mlflow.entities import Metric

        if step <= self._last:
            return
        self._last = step
        now = int(time.time() * 1000)
        points = [Metric(f"train/{name}", float(event[name]), now, step) for name in CURVES if event.get(name) is not None]
        with self._lock:
            self._waiting += points

    def _send_until_ended(self) -> None:
        while not self._ended.wait(self._every):
            self._send()
        self._send()

    def _send(self) -> None:
        with self._lock:
            batch = self._waiting[:_BATCH]
        if not batch:
            return
        try:
            with speaking_plainly(self._lineage.tracking_uri):
                self._lineage.client.log_batch(self.run_id, metrics=batch)
        except LineageError as error:
            logger.warning("training metrics are sent to MLflow later: %s", error.what)
            return
        with self._lock:
            del self._waiting[: len(batch)]


def open_live_run(lineage: Lineage, parent: RoundRun, stage: Stage) -> str:
    """The nested run of an unfinished stage: that of an interrupted start, or a new one."""
    for run in find_live_runs(lineage, parent.run_id, stage):
        if run.info.status != "RUNNING":
            lineage.client.update_run(run.info.run_id, status="RUNNING")
        return str(run.info.run_id)
    own = {"kind": "live", "stage": stage, "of": parent.run_id}
    named = {PREFIX + name: value for name, value in own.items()}
    named |= {"mlflow.parentRunId": parent.run_id, "mlflow.user": user_name(), "mlflow.source.name": "skillstack"}
    return str(lineage.client.create_run(lineage.experiment_id, tags=named, run_name=stage_name(parent, stage)).info.run_id)
