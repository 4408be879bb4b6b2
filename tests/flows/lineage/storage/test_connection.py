"""A store that cannot be used is one plain line, soon, and never shows a password."""

from __future__ import annotations

import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import mlflow
import pytest

from data_contracts.errors import LineageError
from flows.lineage import Lineage, connect
from flows.lineage.storage.connection import hide_password


def _open(uri: str, state: Path) -> Lineage:
    return connect(uri, model_name="tiny", experiment="rounds", state_dir=state)


@pytest.fixture
def answering() -> Iterator[tuple[str, dict[str, str]]]:
    """A web server that answers every GET with what the test puts under `text`."""
    said = {"text": ""}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(said["text"].encode())

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing: the test's output is not the place."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", said
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_file_that_is_no_database_is_named(tmp_path):
    (tmp_path / "mlflow.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(LineageError, match=r"mlflow\.db: file is not a database"):
        _open(f"sqlite:///{tmp_path}/mlflow.db", tmp_path)


def test_a_state_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LineageError, match="cannot be created: Not a directory"):
        _open(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "file" / "state")


def test_another_web_server_and_another_mlflow_are_told_apart(answering, tmp_path):
    uri, said = answering
    said["text"] = "<html>hello</html>"
    with pytest.raises(LineageError, match="is not an MLflow server"):
        _open(uri, tmp_path)
    said["text"] = "2.9.2"
    with pytest.raises(LineageError, match=f"the server runs MLflow 2.9.2, this client is {mlflow.__version__}"):
        _open(uri, tmp_path)


def test_a_deleted_experiment_is_named_with_the_way_back(open_lineage, lineage):
    lineage.client.delete_experiment(lineage.experiment_id)
    with pytest.raises(LineageError, match=r"experiment 'rounds': was deleted .*mlflow experiments restore"):
        open_lineage()


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://me:secret@host:5432/db", "postgresql://me:***@host:5432/db"),
        ("https://user:p@ss@host", "https://user:***@host"),
        ("sqlite:////tmp/a@b/mlflow.db", "sqlite:////tmp/a@b/mlflow.db"),
        ("http://host:5000", "http://host:5000"),
    ],
)
def test_passwords_are_hidden_and_paths_are_not(uri, shown):
    assert hide_password(uri) == shown


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_database_that_refuses_is_told_within_seconds_and_without_its_password(tmp_path, closed_port):
    started = time.monotonic()
    with pytest.raises(LineageError, match=r"refuses the connection: .*[Rr]efused.*start the database") as caught:
        _open(f"postgresql://me:secret@127.0.0.1:{closed_port}/mlflow", tmp_path)
    assert time.monotonic() - started < 20, "MLflow alone takes more than a minute"
    assert "secret" not in str(caught.value)


def test_an_address_that_no_driver_opens_is_named(tmp_path):
    with pytest.raises(LineageError, match="not the address of a database"):
        _open("postgres+nothing://127.0.0.1/mlflow", tmp_path)


def test_a_server_that_is_away_is_told_within_seconds(tmp_path, closed_port):
    started = time.monotonic()
    with pytest.raises(LineageError, match="no MLflow server answers"):
        _open(f"http://127.0.0.1:{closed_port}", tmp_path)
    assert time.monotonic() - started < 30


def test_a_database_of_another_mlflow_is_named(state_dir):
    with closing(sqlite3.connect(state_dir / "mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    with pytest.raises(LineageError, match=r"mlflow\.db: "):
        _open(f"sqlite:///{state_dir}/mlflow.db", state_dir)
