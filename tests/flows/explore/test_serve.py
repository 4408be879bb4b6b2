"""The guard: loopback, token, no other page; and the command's own errors."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import MutableMapping
from typing import Any

import pytest

from data_contracts.errors import ConfigError
from flows.cli import explore as command
from flows.explore.frame import PAGES
from flows.explore.serve import Guard, address_of, listen, new_token

TOKEN = "a-token-of-the-test"


async def _inner(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"inside"})


def ask(path: str = "/spectrum/", query: str = "", *, kind: str = "http", **headers: str) -> tuple[int, dict[str, str]]:
    """(status, headers) that the guard answers; a closed websocket is its close code."""
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in ({"host": "127.0.0.1:8000"} | headers).items()]
    scope = {"type": kind, "path": path, "query_string": query.encode(), "headers": raw}
    asyncio.run(Guard(_inner, TOKEN)(scope, receive, send))
    if sent[0]["type"] == "websocket.close":
        return int(sent[0]["code"]), {}
    return int(sent[0]["status"]), {name.decode(): value.decode() for name, value in sent[0]["headers"]}


COOKIE = f"skillstack_explore={TOKEN}"


def test_token_becomes_a_cookie_for_all_views() -> None:
    status, headers = ask("/", f"access_token={TOKEN}")
    assert (status, headers["location"]) == (303, f"/{PAGES[0].name}/")
    assert "HttpOnly" in headers["set-cookie"]
    assert "SameSite=Strict" in headers["set-cookie"]
    assert ask(cookie=COOKIE)[0] == 200
    assert ask("/", cookie=COOKIE)[0] == 303


@pytest.mark.parametrize("path", ["//other-host/", "//other-host/spectrum/", "/\\other-host/", "///other-host", "https://other/", "/no/"])
def test_the_token_leads_to_no_other_host(path: str) -> None:
    status, headers = ask(path, f"access_token={TOKEN}")
    assert (status, headers["location"]) == (303, f"/{PAGES[0].name}/")


def test_the_token_leads_to_the_page_that_was_asked_for() -> None:
    assert ask(f"/{PAGES[-1].name}/", f"access_token={TOKEN}")[1]["location"] == f"/{PAGES[-1].name}/"


def test_without_the_token_nothing() -> None:
    assert ask()[0] == 401
    assert ask(query="access_token=wrong")[0] == 401
    assert ask(query="access_token=%C3%A9")[0] == 401
    assert ask(cookie="skillstack_explore=wrong")[0] == 401
    assert ask(cookie="\x00;;=")[0] == 401
    assert ask(kind="websocket", path="/spectrum/ws")[0] == 1008


def test_other_hosts_and_pages_are_refused() -> None:
    assert ask(cookie=COOKIE, host="evil.example:8000")[0] == 401
    assert ask(query=f"access_token={TOKEN}", host="evil.example:8000")[0] == 401
    assert ask(cookie=COOKIE, origin="http://evil.example")[0] == 401
    assert ask(cookie=COOKIE, origin="http://127.0.0.1:9999")[0] == 401
    assert ask(cookie=COOKIE, origin="http://127.0.0.1:8000")[0] == 200
    assert ask(kind="websocket", cookie=COOKIE, origin="http://evil.example")[0] == 1008


def test_listens_on_loopback_only() -> None:
    sock = listen(0)
    try:
        assert sock.getsockname()[0] == "127.0.0.1"
        assert address_of(sock, "t").startswith("http://127.0.0.1:")
        with pytest.raises(ConfigError, match="cannot be used"):
            listen(sock.getsockname()[1])
        outside = socket.socket()
        outside.settimeout(0.5)
        with pytest.raises(OSError):  # noqa: PT011  (refused or unreachable, as the system likes)
            outside.connect((_own_address(), sock.getsockname()[1]))
        outside.close()
    finally:
        sock.close()
    assert len(new_token()) >= 32


def _own_address() -> str:
    """An address of this machine that is not loopback; 127.0.0.2 where it has none."""
    found = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    return str(next((each for each in sorted(map(str, found)) if not each.startswith("127.")), "127.0.0.2"))


def test_missing_extra_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_NEEDED", ("no_such_package_here",))
    with pytest.raises(ConfigError, match=r"skillstack\[explore\]"):
        command.require_extra()
