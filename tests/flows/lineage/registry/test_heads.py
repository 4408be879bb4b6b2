"""A webhook is told of the ledger's head after each entry; what it keeps shows a chain that was cut, and its absence stops nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from flows.lineage import Lineage, current_champion, read_ledger, roll_back, verify_lineage
from flows.lineage.registry import ledger
from flows.lineage.registry.heads import head_of
from flows.lineage.storage.signing import HEAD_URL_VARIABLE, SigningConfig


class Receiver:
    """A webhook on loopback: keeps every body and answers with `status`."""

    def __init__(self) -> None:
        received: list[dict[str, Any]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if receiver.status == 200:
                    received.append(body)
                self.send_response(receiver.status)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.status, self.received = 200, received
        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hooks/secret"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def test_a_webhook_gets_every_head_and_one_of_them_shows_a_chain_that_was_cut(
    receiver: Receiver, grown: Lineage, state_dir: Path, open_store_at: Any
) -> None:
    lineage = open_store_at(state_dir, SigningConfig(head_url=receiver.url))
    entry = roll_back(lineage, reason="worse in use", actor="ann")
    assert [each["head"] for each in receiver.received] == [head_of(entry)]
    told = receiver.received[0]
    assert (told["model"], told["action"], told["version"], told["champion"]) == ("tiny", "rollback", 2, 2)
    assert verify_lineage(lineage, head=told["head"]).ok

    entries = read_ledger(lineage)  # the last entry is removed with everything that names it in the database
    lineage.client.delete_model_version_tag("tiny", "2", f"{ledger.ENTRY_TAG}{entry.sequence:06d}")
    lineage.client.set_registered_model_tag("tiny", ledger.HEAD_TAG, head_of(entries[-2]))
    lineage.client.set_registered_model_alias("tiny", "champion", "3")
    ledger.copy_to_artifact(lineage, entries[:-1])
    assert verify_lineage(lineage).ok, "nothing in the database shows it"
    assert any("entries were removed" in finding.problem for finding in verify_lineage(lineage, head=told["head"]).findings)


@pytest.mark.parametrize("status", [500, 302, None])
def test_a_webhook_that_does_not_take_the_head_is_a_warning(
    receiver: Receiver,
    grown: Lineage,
    state_dir: Path,
    open_store_at: Any,
    caplog: Any,
    monkeypatch: pytest.MonkeyPatch,
    status: int | None,
) -> None:
    if status is None:
        receiver.close()
    else:
        receiver.status = status
    monkeypatch.setenv(HEAD_URL_VARIABLE, receiver.url)
    lineage = open_store_at(state_dir, SigningConfig(head_url="http://127.0.0.1:9/not-this-one"))
    entry = roll_back(lineage, reason="worse in use", actor="ann")
    champion = current_champion(lineage)
    assert champion is not None
    assert champion.version == 2, "the rollback is carried out all the same"
    assert receiver.received == []
    warning = next(record.getMessage() for record in caplog.records if "signing.head_url" in record.getMessage())
    assert head_of(entry) in warning
    assert f"answered {status}" in warning or "cannot be reached" in warning
    assert "secret" not in warning, "the path of a webhook is often its password"
