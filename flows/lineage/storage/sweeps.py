"""A sweep in MLflow: one run with all its points, not nested in a round, because no version comes from it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from flows.lineage.storage.connection import PREFIX, Lineage, plainly
from flows.lineage.storage.describe import MAX_TEXT
from flows.lineage.storage.tracking import user_name


@plainly
def log_sweep(lineage: Lineage, skill: str, note: str, points: Sequence[tuple[float, str, float, float]], table: Path) -> str:
    """Record a finished sweep. points: (ratio, name of the point, score, share of the margin used); a step of a chart is the ratio in %."""
    from mlflow.entities import Metric

    own = {PREFIX + "kind": "sweep", PREFIX + "skill": skill, "mlflow.note.content": note[:MAX_TEXT]}
    tags = own | {"mlflow.user": user_name(), "mlflow.source.name": "skillstack"}
    name = f"sweep · {skill} · {datetime.now(UTC):%Y-%m}"
    run_id = str(lineage.client.create_run(lineage.experiment_id, tags=tags, run_name=name).info.run_id)
    now = int(time.time() * 1000)
    metrics = []
    for ratio, at, learned, forgetting in points:
        step = round(100 * ratio)
        metrics += [Metric(f"learned/{at}", learned, now, step), Metric(f"margin used/{at}", forgetting, now, step)]
    for start in range(0, len(metrics), 900):
        lineage.client.log_batch(run_id, metrics=metrics[start : start + 900])
    lineage.client.log_artifact(run_id, str(table))
    lineage.client.set_terminated(run_id, status="FINISHED")
    return run_id
