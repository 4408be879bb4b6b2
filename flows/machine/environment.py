"""Environment variables that must be set before Prefect, MLflow or transformers are imported.

Nothing here overrides what the caller has set: an operated service brings its own URIs; a laptop gets files under `state_dir`.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from data_contracts.errors import ConfigError
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
    # A failed round is told in one line; tracebacks are for the log of a worker, which sets its own level.
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
}

FIRST_START_BYTES = 32 << 20
"""Free space without which the embedded server's database is not begun."""


SERVER_LOG = Path(__file__).parent / "embedded_log.json"
"""Logging of Prefect's embedded server, which also starts the watch over it (service/embedded.py)."""


def prepare_environment(state_dir: Path, *, writes: bool = True) -> None:
    """Set what is not set yet. Call once, before the first import of prefect, mlflow or transformers.

    writes: whether what follows may make the state directory; a command that only looks leaves none behind.
    """
    prefect_home = state_dir.absolute() / "prefect"
    defaults = {**OFFLINE_AND_QUIET, "PREFECT_HOME": str(prefect_home), "MLFLOW_TRACKING_URI": default_tracking_uri(state_dir)}
    defaults["UVICORN_LOG_CONFIG"] = str(SERVER_LOG)
    os.environ["SKILLSTACK_SERVER_OWNER"] = str(os.getpid())
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    home = Path(os.environ["PREFECT_HOME"])
    if writes:
        with suppress(OSError):  # a state directory that can only be read is enough for the commands that only read
            home.mkdir(parents=True, exist_ok=True)  # Prefect warns where it has to make more than the last folder
        if home.is_dir() and not (home / "prefect.db").exists() and not os.environ.get("PREFECT_API_URL"):
            require_room(home, FIRST_START_BYTES)  # on a full disk the embedded server tries for minutes before it says anything


def default_tracking_uri(state_dir: Path) -> str:
    """MLflow on SQLite inside the state directory, for those who name no server. Raises ConfigError for a path that is no address."""
    if wrong := sorted(set("?#") & set(str(state_dir.absolute()))):
        what = f"has {' '.join(wrong)} in its path, which the addresses of its databases cannot hold"
        raise ConfigError(f"state_dir {state_dir.absolute()}", what, "rename the folder, or set state_dir to another one")
    return f"sqlite:///{(state_dir.absolute() / 'mlflow.db').as_posix()}"
