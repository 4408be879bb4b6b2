"""The server of `skillstack explore`: one process on a loopback address, protected by a token, with the eight apps.

The guard runs before marimo: it turns the token in the first address into one cookie for all views, and refuses requests with another host
name (DNS rebinding) or from another page. ADR 8 says why this is not marimo's own token.
"""

from __future__ import annotations

import hmac
import secrets
import signal
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from data_contracts.errors import ConfigError
from flows.explore.frame import PAGES

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

HOST = "127.0.0.1"
_LOCAL = {"127.0.0.1", "localhost", "[::1]"}
_COOKIE = "skillstack_explore"
# marimo's chart element loads MathJax from the web unless the page has a script of this address. This one has a type that is never loaded.
_MATHJAX = "https://cdn.jsdelivr.net/npm/mathjax-full@3.2.2/es5/tex-mml-svg.min.js"
_HEAD = f'<script type="text/plain" data-status="ready" src="{_MATHJAX}"></script><meta name="referrer" content="no-referrer">'


class Guard:
    """Accepts only requests to a local address with the token or its cookie."""

    def __init__(self, inner: Application, token: str) -> None:
        self._inner, self._token = inner, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._inner(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope.get("headers", [])}
        # Browsers request the manifest of a site without cookies; it has only names of icons.
        refusal = None if scope["path"].endswith("/manifest.json") else self._refusal(scope, headers)
        if refusal is None and scope["path"] == "/" and scope["type"] == "http":
            await _answer(send, 303, "", [(b"location", f"/{PAGES[0].name}/".encode())])
        elif refusal is None:
            await self._inner(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        elif self._brings_token(scope):
            cookie = f"{_COOKIE}={self._token}; Path=/; HttpOnly; SameSite=Strict"
            await _answer(send, 303, "", [(b"location", _own_place(scope["path"]).encode()), (b"set-cookie", cookie.encode())])
        else:
            await _answer(send, 401, refusal, [])

    def _refusal(self, scope: Scope, headers: MutableMapping[str, str]) -> str | None:
        """Why a request is refused; None if it is accepted."""
        if headers.get("host", "").rpartition(":")[0] not in _LOCAL:
            return "This server answers on its loopback address only."
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            return "This request comes from another page."
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(_COOKIE)
        except CookieError:
            cookie = None
        if cookie is None or not hmac.compare_digest(cookie.value, self._token):
            return "Open the complete address that skillstack explore printed: it contains the token."
        return None

    def _brings_token(self, scope: Scope) -> bool:
        headers = dict(scope.get("headers", []))
        if headers.get(b"host", b"").decode("latin-1").rpartition(":")[0] not in _LOCAL:
            return False
        brought = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("access_token", [""])[0]
        return hmac.compare_digest(brought.encode(), self._token.encode())


def _own_place(path: str) -> str:
    """The page to redirect to after the token: always one of this server, because a path like //host/ would lead to another host."""
    name = path.split("/")[1] if path.startswith("/") else ""
    return f"/{name}/" if name in {page.name for page in PAGES} else f"/{PAGES[0].name}/"


async def _answer(send: Send, status: int, text: str, headers: list[tuple[bytes, bytes]]) -> None:
    plain = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store"), *headers]
    await send({"type": "http.response.start", "status": status, "headers": plain})
    await send({"type": "http.response.body", "body": text.encode()})


def build_application(token: str) -> Application:
    """The views behind the guard."""
    import marimo

    builder = marimo.create_asgi_app(quiet=True, include_code=False, html_head=_HEAD)
    for page in PAGES:
        builder = builder.with_app(path=f"/{page.name}", root=str(page.file))
    inner: Any = builder.build()
    return Guard(inner, token)


def new_token() -> str:
    return secrets.token_urlsafe(24)


def listen(port: int) -> socket.socket:
    """A socket on the loopback address; port 0 chooses a free one. Raises ConfigError if the port is in use."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((HOST, port))
        sock.listen()  # so that a browser waits during the server's imports instead of being refused
    except OSError as error:
        sock.close()
        raise ConfigError(f"--port {port}", f"cannot be used: {error.strerror}", "give another port, or 0 for a free one") from error
    return sock


def address_of(sock: socket.socket, token: str) -> str:
    return f"http://{HOST}:{sock.getsockname()[1]}/?access_token={token}"


def serve(sock: socket.socket, token: str) -> None:
    """Serve until interrupted. Nothing is loaded in advance: a thread that imports torch would delay the first page."""
    import uvicorn

    # There is nothing to save, and the handler of commands would wait for the threads of the pages, which do not end.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    uvicorn.Server(uvicorn.Config(build_application(token), log_level="error", ws_ping_interval=None)).run(sockets=[sock])
