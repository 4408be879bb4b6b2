"""The connection to MLflow: the experiment with the rounds and the registered model with the versions."""

from __future__ import annotations

import functools
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from data_contracts.errors import LineageError
from data_contracts.full_disk import WHAT, is_full_disk
from flows.lineage.storage.signing import Keys, SigningConfig, load_keys
from flows.lineage.storage.state import prepare_state
from flows.machine.disk import naming_disk_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient

PREFIX = "skillstack."
P = ParamSpec("P")
T = TypeVar("T")

_CONNECT_SECONDS = 5
_ANSWER_SECONDS = 30
_EXPERIMENT_NOTE = (
    "One parent run per round, named by round, skill and month. Its description begins with the verdict; its nested runs are the stages: "
    "validate, train, evaluate, decide. The run `ledger` charts the champion's score on each suite over the rounds."
)
# The kind is MLflow's name for experiments that train models.
_EXPERIMENT_TAGS = {"mlflow.note.content": _EXPERIMENT_NOTE, "mlflow.experimentKind": "custom_model_development"}
_MODEL_NOTE = (
    "All candidates of all rounds, promoted or not, with the verdict as the description. Aliases: **champion** is the version to serve, "
    "**previous** the champion before it, **candidate** the newest version. Use `skillstack approve`, `reject` and `rollback`: "
    "skillstack refuses to work with an alias that was moved here by hand."
)

_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",  # MLflow accepts "true" only, not "1"
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


@dataclass(frozen=True)
class Lineage:
    """A connection to one lineage. Checkpoint paths are relative to `state_dir`.

    The functions of this package that take one raise LineageError (or ManifestError) with place, problem and what to do.
    """

    client: MlflowClient
    tracking_uri: str
    experiment_id: str
    model_name: str
    state_dir: Path
    keys: Keys = field(default_factory=Keys)

    @property
    def where(self) -> str:
        """The address of MLflow without the password."""
        return hide_password(self.tracking_uri)


def silence_mlflow() -> None:
    """Turn off telemetry, progress bars and the migration log. Variables that the user has set are kept."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import mlflow  # noqa: F401  (its import configures logging, so the levels come after it)

    for name in ("alembic", "mlflow.store.db.utils", "mlflow.tracking", "mlflow.models.model"):
        logging.getLogger(name).setLevel(logging.ERROR)


def connect(tracking_uri: str, *, model_name: str, experiment: str, state_dir: Path, signing: SigningConfig | None = None) -> Lineage:
    """Open the lineage; experiment and registered model are created on first use. Creating a SQLite file takes about 2 s."""
    keys = load_keys(signing or SigningConfig())
    silence_mlflow()
    from mlflow import MlflowClient

    state_dir = state_dir.expanduser().resolve()
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        database = _sqlite_file(tracking_uri)
        if database is not None:
            database.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LineageError(str(error.filename or state_dir), f"cannot be created: {error.strerror}", "choose another state_dir") from error
    with speaking_plainly(hide_password(tracking_uri)), naming_disk_errors(state_dir):
        prepare_state(state_dir, database)
        if tracking_uri.startswith(("http://", "https://")):
            _require_server(tracking_uri)
        elif not tracking_uri.startswith("sqlite:"):
            _require_database(tracking_uri)
        client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
        experiment_id = _experiment(client, experiment, tracking_uri, state_dir)
        _registered_model(client, model_name)
    return Lineage(client, tracking_uri, experiment_id, model_name, state_dir, keys)


@contextmanager
def speaking_plainly(where: str) -> Iterator[None]:
    """Turn errors of MLflow and the network into one line with the place and what to do."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, RequestException, SQLAlchemyError) as error:
        if is_full_disk(error):
            raise LineageError(where, WHAT, "free space on the disk of the database, then run it again: finished work is kept") from error
        what = (str(getattr(error, "orig", None) or error).strip() or type(error).__name__).splitlines()[0][:300]
        raise LineageError(where, what, "check the tracking URI, the credentials and the server with `skillstack doctor`") from error


def plainly(function: Callable[Concatenate[Lineage, P], T]) -> Callable[Concatenate[Lineage, P], T]:
    """Decorator for a function of a lineage: its caller gets errors of MLflow and the network as one line."""

    @functools.wraps(function)
    def speaks_plainly(lineage: Lineage, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with speaking_plainly(lineage.where):
            return function(lineage, *args, **kwargs)

    return speaks_plainly


@contextmanager
def as_default(lineage: Lineage) -> Iterator[None]:
    """Make this lineage MLflow's process-wide default inside the block.

    The SQL registry resolves `models:/m-...` with the default tracking URI, not with that of the client.
    """
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(lineage.tracking_uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)


def hide_password(uri: str) -> str:
    """A URI without the password between user name and host."""
    if uri.startswith("sqlite:"):
        return uri
    head, at, tail = uri.rpartition("@")
    scheme, separator, user = head.partition("://")
    return f"{scheme}{separator}{user.split(':')[0]}:***@{tail}" if at and separator else uri


def authenticated_user(tracking_uri: str) -> str | None:
    """The user that the credentials belong to, as the MLflow server says; None without a server, or where it has no users."""
    if not tracking_uri.startswith(("http://", "https://")):
        return None
    from requests import Session

    with Session() as session:
        _authenticate(session)
        answer = session.get(tracking_uri.rstrip("/") + "/api/2.0/mlflow/users/current", timeout=_ANSWER_SECONDS)
    try:
        return str(answer.json()["user"]["username"]) if answer.status_code == 200 else None
    except (ValueError, KeyError, TypeError):  # a server without users answers with its start page
        return None


def _sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite address; None for other addresses, and for SQLite's `file:` URIs, which have options of their own."""
    path = uri.removeprefix("sqlite:///")
    return None if not uri.startswith("sqlite:///") or path.startswith("file:") or not path else Path(path).absolute().resolve()


def _require_server(uri: str) -> None:
    """Ask the server for its version first: MLflow's own calls would retry a wrong address for minutes."""
    import mlflow
    from requests import RequestException, Session
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    try:
        with Session() as session:
            session.mount(uri, HTTPAdapter(max_retries=Retry(total=3, backoff_factor=1.0)))
            _authenticate(session)
            answer = session.get(uri.rstrip("/") + "/version", timeout=10)
    except RequestException as error:
        raise LineageError(hide_password(uri), "no MLflow server answers", "start it, or correct MLFLOW_TRACKING_URI") from error
    if answer.status_code in (401, 403):
        way_out = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, then run `skillstack doctor`"
        raise LineageError(hide_password(uri), f"MLflow refuses these credentials ({answer.status_code})", way_out)
    found = answer.text.strip()
    if answer.status_code != 200 or not re.fullmatch(r"\d+\.\d+\S*", found):
        raise LineageError(
            hide_password(uri), f"is not an MLflow server (/version answers {answer.status_code})", "correct MLFLOW_TRACKING_URI"
        )
    if found.split(".")[0] != mlflow.__version__.split(".")[0]:
        way_out = "use the version that infra/constraints.txt names on both sides"
        raise LineageError(hide_password(uri), f"the server runs MLflow {found}, this client is {mlflow.__version__}", way_out)


def _require_database(uri: str) -> None:
    """Connect once first: MLflow itself retries for a minute and a half, even with a wrong password."""
    import sqlalchemy
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError

    shown, way_out = hide_password(uri), "start the database, or correct address, user and password in MLFLOW_TRACKING_URI"
    try:
        engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool, connect_args={"connect_timeout": _CONNECT_SECONDS})
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise LineageError(
            shown, f"is not the address of a database that can be opened here: {error}", "correct MLFLOW_TRACKING_URI"
        ) from error
    for patience in (1.0, 2.0, None):  # a restart of the database takes seconds
        try:
            engine.connect().close()
            return
        except OperationalError as error:
            what = " ".join(str(error.orig or error).split())[:300]
            if patience is None or "password" in what or "authentication" in what or "does not exist" in what:
                raise LineageError(shown, f"the database refuses the connection: {what}", way_out) from error
            time.sleep(patience)


def _authenticate(session: Any) -> None:
    """The credentials that MLflow's own client would send: with authentication, the server requires them even for its version."""
    user, password, token = (os.environ.get(f"MLFLOW_TRACKING_{name}") for name in ("USERNAME", "PASSWORD", "TOKEN"))
    if user and password:
        session.auth = (user, password)
    elif token:
        session.headers["Authorization"] = f"Bearer {token}"


def _experiment(client: Any, name: str, tracking_uri: str, state_dir: Path) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        # Without a server the artifacts would go to ./mlruns of the working directory.
        location = (state_dir / "artifacts").as_uri() if tracking_uri.startswith("sqlite:") else None
        try:
            return str(client.create_experiment(name, artifact_location=location, tags=_EXPERIMENT_TAGS))
        except MlflowException:  # another process created it meanwhile
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        way_out = f"restore it: mlflow experiments restore --experiment-id {found.experiment_id}"
        raise LineageError(f"experiment {name!r}", "was deleted in MLflow, with all rounds", way_out)
    return str(found.experiment_id)


def _registered_model(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(name)  # first, because the database may be read-only
        return
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    try:
        client.create_registered_model(name, description=_MODEL_NOTE)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
