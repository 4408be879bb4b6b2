"""Without a server nothing is sent; a server that refuses or is away is one line without its password."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from data_contracts.errors import SkillstackError
from data_contracts.manifests import Decision
from flows.config.service import ServiceConfig
from flows.workspace.server import END_STATES, ROUND_ENDED, ROUND_UNMEASURED, gpu_slot, has_server, prefect_api


@pytest.fixture
def server() -> Iterator[tuple[str, dict[str, Any]]]:
    """A stand-in: answers with `status` and `body`, and keeps what it was sent."""
    seen: dict[str, Any] = {"status": 200, "body": b"[]"}

    class Answers(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            seen.update(method=self.command, path=self.path, given=self.rfile.read(length), authorization=self.headers.get("Authorization"))
            self.send_response(seen["status"])
            self.end_headers()
            self.wfile.write(seen["body"])

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answers) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}/api", seen
        listening.shutdown()


def test_without_a_server_a_slot_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert not has_server()
    with gpu_slot(ServiceConfig(gpu_limit="skillstack-gpu")):
        pass


def test_an_answer_and_what_was_sent(monkeypatch: pytest.MonkeyPatch, server: tuple[str, dict[str, Any]]) -> None:
    url, seen = server
    monkeypatch.setenv("PREFECT_API_URL", url + "/")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "ann:secret")
    assert prefect_api("POST", "/deployments/filter") == []
    assert (seen["method"], seen["path"], json.loads(seen["given"])) == ("POST", "/api/deployments/filter", {})
    assert seen["authorization"] == "Basic YW5uOnNlY3JldA=="
    seen["status"] = 404
    assert prefect_api("GET", "/work_pools/none") is None


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_name_their_variable(monkeypatch: pytest.MonkeyPatch, server: tuple[str, dict[str, Any]], status: int) -> None:
    url, seen = server
    seen["status"] = status
    monkeypatch.setenv("PREFECT_API_URL", url)
    with pytest.raises(SkillstackError, match=rf"refuses these credentials \({status}\).*PREFECT_API_AUTH_STRING"):
        prefect_api("GET", "/health")


def test_another_program_at_the_address_is_no_prefect_server(monkeypatch: pytest.MonkeyPatch, server: tuple[str, dict[str, Any]]) -> None:
    url, seen = server
    seen["body"] = b"<html>"
    monkeypatch.setenv("PREFECT_API_URL", url)
    with pytest.raises(SkillstackError, match="no Prefect server answers"):
        prefect_api("GET", "/health")


def test_a_server_that_is_away_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://ann:secret@127.0.0.1:9/api")
    with pytest.raises(SkillstackError, match="no Prefect server answers") as raised:
        prefect_api("GET", "/health")
    assert "secret" not in str(raised.value)


def test_every_decision_has_a_state_and_an_event() -> None:
    assert set(END_STATES) == {decision.value for decision in Decision}
    assert set(ROUND_ENDED) == {decision.value for decision in Decision} - {"ERROR"}
    assert ROUND_UNMEASURED not in ROUND_ENDED.values()
