"""Read-only access to the lineage in MLflow.

SQLite is opened in its read-only mode, so a missing database is not created and an existing one is not migrated. Of a client's methods only
those that get, search or list can be called.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_contracts.errors import LineageError
from flows.lineage.registry.history import read_history
from flows.lineage.storage.connection import Lineage, hide_password, silence_mlflow, speaking_plainly
from flows.lineage.storage.records import RoundRecord
from flows.lineage.storage.tracking import find_live_runs, find_runs
from flows.machine.environment import OFFLINE_AND_QUIET, tracking_uri

if TYPE_CHECKING:
    from flows.config.model import SkillstackConfig

_SECONDS = 4.0  # time that a page waits for a server
_READS = ("get_", "search_", "list_")
_NO_LINEAGE = "run a round first: skillstack round DROP --skill NAME, or skillstack demo"


class ReadingClient:
    """An MLflow client of which only reading methods can be called. Raises LineageError for any other."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        if not name.startswith(_READS):
            raise LineageError("the explorer", f"only reads, and {name} would write", "use the commands of skillstack")
        return getattr(self._client, name)


def open_for_reading(config: SkillstackConfig) -> Lineage:
    """The lineage of environment and config. Raises LineageError if there is none yet, or if no server answers."""
    uri = tracking_uri(config.state_dir)
    for name, value in {**OFFLINE_AND_QUIET, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}.items():
        os.environ.setdefault(name, value)
    if uri.startswith("sqlite:"):
        uri = read_only_sqlite(uri)
    elif uri.startswith(("http://", "https://")):
        require_server(uri)
    silence_mlflow()
    with speaking_plainly(hide_password(uri)):
        return _store(uri, config)


def _store(uri: str, config: SkillstackConfig) -> Lineage:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client: Any = ReadingClient(MlflowClient(tracking_uri=uri, registry_uri=uri))
    experiment = client.get_experiment_by_name(config.tracking.experiment)
    if experiment is None or experiment.lifecycle_stage != "active":
        raise LineageError(hide_password(uri), f"has no experiment {config.tracking.experiment!r} yet", _NO_LINEAGE)
    try:
        client.get_registered_model(config.tracking.model_name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise LineageError(hide_password(uri), f"has no model {config.tracking.model_name!r} yet", _NO_LINEAGE) from error
    return Lineage(client, uri, str(experiment.experiment_id), config.tracking.model_name, config.state_dir.expanduser().resolve())


def read_only_sqlite(uri: str) -> str:
    """The URI of the database in SQLite's read-only mode. Raises LineageError if there is no file."""
    path = Path(uri.partition(":///")[2])
    if not path.is_file():
        raise LineageError(str(path), "does not exist: no round has run yet", _NO_LINEAGE)
    # With the driver's name, because MLflow creates the parent folders of any URI that begins with sqlite:///.
    return f"sqlite+pysqlite:///file:{path.absolute().as_posix()}?mode=ro&uri=true"


def require_server(uri: str) -> None:
    """Ask for the version first: MLflow's own calls would retry for minutes."""
    import requests

    try:
        answer = requests.get(uri.rstrip("/") + "/version", timeout=_SECONDS)
    except requests.RequestException as error:
        raise LineageError(hide_password(uri), "no MLflow server answers", "start it, or correct MLFLOW_TRACKING_URI") from error
    if answer.status_code != 200:
        raise LineageError(hide_password(uri), f"/version answers {answer.status_code}", "correct MLFLOW_TRACKING_URI")


def read_rounds(lineage: Lineage) -> list[RoundRecord]:
    """All attempts at all rounds, as in `skillstack history`."""
    with speaking_plainly(hide_password(lineage.tracking_uri)):
        return read_history(lineage)


def training_run(lineage: Lineage, round_run: str) -> Any | None:
    """The newest nested training run of a round, finished or running; None if there is none."""
    with speaking_plainly(hide_password(lineage.tracking_uri)):
        found = [*find_runs(lineage, "stage", stage="train"), *find_live_runs(lineage, round_run, "train")]
    mine = [run for run in found if run.data.tags.get("mlflow.parentRunId") == round_run and run.info.lifecycle_stage == "active"]
    return mine[-1] if mine else None


def metric_points(lineage: Lineage, run_id: str, name: str) -> list[tuple[int, float]]:
    """(step, value) of one metric of a run, by step; empty if it has none. Raises LineageError if the run does not exist."""
    with speaking_plainly(f"run {run_id}"):
        return sorted((int(point.step), float(point.value)) for point in lineage.client.get_metric_history(run_id, name))
