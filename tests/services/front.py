"""A TCP front between a client and a server, which a test can close."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator


class Front:
    """A TCP front that can be closed: while it is, every connection is cut at once, as when the server behind it is away.

    It keeps its port all the while; a port that is free for a minute may be anybody's afterwards.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.removeprefix("http://").partition(":")
        self._target, self._lock, self._away = (host, int(port)), threading.Lock(), False
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = "http://{}:{}".format(*self._listener.getsockname())
        threading.Thread(target=self._accept, daemon=True).start()

    @contextlib.contextmanager
    def closed(self) -> Iterator[None]:
        self._away = True
        with self._lock:
            for connection in list(self._open):
                _close(connection)
        try:
            yield
        finally:
            self._away = False

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            if self._away:
                near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not an orderly end
                near.close()
                continue
            far = socket.create_connection(self._target)
            with self._lock:
                self._open |= {near, far}
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with self._lock:
            self._open -= {source, sink}
        _close(source)
        _close(sink)


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
