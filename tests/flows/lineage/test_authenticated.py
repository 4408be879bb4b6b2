"""Who decides, on a real MLflow server with users: the server says it, and a name in the environment proves nothing."""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.server import get_app_client
from typer.testing import CliRunner

from data_contracts.manifests import Decision
from flows.cli.app import app
from flows.lineage import connect, current_champion, promote_version, read_history, read_ledger
from flows.lineage.storage.connection import authenticated_user

pytestmark = pytest.mark.slow
ADMIN, ANN = secrets.token_hex(12), secrets.token_hex(12)


def _server(folder: Path, *options: str, **variables: str) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", *options]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "artifacts")]
    names = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "PATH": ""}
    with (folder / "log").open("w") as log, subprocess.Popen(command, env={**names, **variables}, stdout=log, stderr=log) as process:
        url = f"http://127.0.0.1:{port}"
        until = time.monotonic() + 300
        while not _answers(url):
            assert process.poll() is None, (folder / "log").read_text()[-2000:]
            assert time.monotonic() < until, (folder / "log").read_text()[-2000:]
            time.sleep(0.5)
        yield url
        process.terminate()


def _answers(url: str) -> bool:
    try:
        return bool(urllib.request.urlopen(f"{url}/health", timeout=5).status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="module")
def with_users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with the users admin and ann."""
    folder = tmp_path_factory.mktemp("users")
    settings = f"[mlflow]\ndefault_permission = MANAGE\ndatabase_uri = sqlite:///{folder}/users.db\nadmin_username = admin\n"
    settings += "auth_cache_ttl_seconds = 60\n"  # else every request pays for the slow hash of its password
    (folder / "auth.ini").write_text(settings)
    variables = {"MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"), "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN}
    servers = _server(folder, "--app-name", "basic-auth", MLFLOW_FLASK_SERVER_SECRET_KEY=secrets.token_hex(16), **variables)
    url = next(servers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
        patch.setenv("MLFLOW_TRACKING_PASSWORD", ADMIN)
        get_app_client("basic-auth", tracking_uri=url).create_user("ann", ANN)
    yield url
    next(servers, None)


@pytest.fixture(scope="module")
def without_users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    servers = _server(tmp_path_factory.mktemp("open"))
    yield next(servers)
    next(servers, None)


@pytest.fixture
def as_user(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    def sign_in(name: str, password: str) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)

    return sign_in


def test_the_server_says_who_it_is(with_users: str, as_user: Any) -> None:
    as_user("ann", ANN)
    assert authenticated_user(with_users) == "ann"
    as_user("ann", "guessed")
    assert authenticated_user(with_users) is None


def test_a_name_in_the_environment_is_nobody_where_the_server_has_no_users(without_users: str, as_user: Any) -> None:
    as_user("the boss", "anything")
    assert authenticated_user(without_users) is None
    assert authenticated_user("sqlite:///mlflow.db") is None


def test_the_reviewer_is_the_user_who_is_signed_in(
    with_users: str, as_user: Any, tmp_path: Path, register: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_user("ann", ANN)
    state = tmp_path / "state"
    lineage = connect(with_users, model_name="tiny", experiment="rounds", state_dir=state)
    _, base, _ = register(lineage, "base", 0)
    promote_version(lineage, base.version, expected_champion=None, reason="start", actor="test", verdict=None)
    held = register(lineage, "one", 1, parent=base.model_sha256, decision=Decision.INCONCLUSIVE)[1].version
    config = tmp_path / "skillstack.yaml"
    config.write_text(f"state_dir: {state}\ntracking: {{model_name: tiny, experiment: rounds}}\n")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", with_users)

    def command(*arguments: str) -> Any:
        result = CliRunner().invoke(app, [*arguments, "--config", str(config), "--json"], catch_exceptions=False)
        return json.loads(result.stdout)

    refused = command("reject", str(held), "--reason", "not yet")
    assert (refused["actor"], refused["authenticated"]) == ("ann", "ann")
    assert read_history(lineage)[-1].who == "ann"
    approved = command("approve", str(held), "--reason", "looked at", "--reviewer", "the boss")
    assert (approved["actor"], approved["authenticated"]) == ("the boss", "ann")
    assert read_history(lineage)[-1].who == "the boss (signed in as ann)", "whose credentials they were is never hidden"
    assert current_champion(lineage).version == held
    back = command("rollback", "--reason", "after all")
    assert (back["actor"], read_ledger(lineage)[-1].authenticated) == ("ann", "ann")
