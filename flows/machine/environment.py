"""Environment variables that must be set before Prefect, MLflow or transformers are imported.

Variables that are set already are kept, such as the addresses of servers; without them everything is in files under `state_dir`.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from data_contracts.errors import ConfigError
from data_contracts.logs.lines import json_wanted, start
from flows.machine.disk import require_room

OFFLINE_AND_QUIET = {
    "DO_NOT_TRACK": "true",  # MLflow ignores "1"
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    # 20 s, the default, is too short for the embedded server on two cores; on busy ones two minutes were too short as well.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
    # A failed round prints one line; tracebacks belong in the log of a worker, which sets its own level.
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
}

CONSOLE = "PREFECT_LOGGING_HANDLERS_CONSOLE_CLASS"
IN_JSON = {
    "PREFECT_LOGGING_LEVEL": "INFO",
    # Prefect's own way to change its logging.yml: the lines before a flow's first one are JSON too.
    CONSOLE: "data_contracts.logs.lines.JsonHandler",
}
"""What is different where log lines are JSON (SKILLSTACK_LOG_FORMAT=json)."""

FIRST_START_BYTES = 32 << 20
"""Free space that is required before the embedded server creates its database."""


SERVER_LOG = Path(__file__).parent / "embedded_log.json"
"""Logging configuration of Prefect's embedded server; it also starts the thread that stops the server (service/embedded.py)."""


def prepare_environment(state_dir: Path, *, writes: bool = True) -> None:
    """Set the variables that are not set yet. Call once, before the first import of prefect, mlflow or transformers.

    writes: whether the state directory may be created; commands that only read do not create it.
    """
    prefect_home = state_dir.absolute() / "prefect"
    defaults = {**OFFLINE_AND_QUIET, "PREFECT_HOME": str(prefect_home), "MLFLOW_TRACKING_URI": default_tracking_uri(state_dir)}
    defaults["UVICORN_LOG_CONFIG"] = str(SERVER_LOG)
    if json_wanted():
        defaults |= IN_JSON
        start()
    os.environ["SKILLSTACK_SERVER_OWNER"] = str(os.getpid())
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    home = Path(os.environ["PREFECT_HOME"])
    if writes:
        with suppress(OSError):  # a read-only state directory is enough for commands that only read
            home.mkdir(parents=True, exist_ok=True)  # Prefect warns if it has to create more than the last folder
        if home.is_dir() and not (home / "prefect.db").exists() and not os.environ.get("PREFECT_API_URL"):
            require_room(home, FIRST_START_BYTES)  # on a full disk the embedded server retries for minutes before it reports anything


def tracking_uri(state_dir: Path) -> str:
    """Where MLflow is: the environment variable MLFLOW_TRACKING_URI, or SQLite in the state directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or default_tracking_uri(state_dir)


def default_tracking_uri(state_dir: Path) -> str:
    """MLflow on SQLite in the state directory, for use without a server. Raises ConfigError for a path that a URL cannot contain."""
    if wrong := sorted(set("?#") & set(str(state_dir.absolute()))):
        what = f"has {' '.join(wrong)} in its path, which the URLs of its databases cannot contain"
        raise ConfigError(f"state_dir {state_dir.absolute()}", what, "rename the folder, or set state_dir to another one")
    return f"sqlite:///{(state_dir.absolute() / 'mlflow.db').as_posix()}"
