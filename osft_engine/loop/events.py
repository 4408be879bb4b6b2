"""metrics.jsonl: one event per line, flushed at once, so that the process that runs the engine can relay it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_contracts.files import write_atomically

OnEvent = Callable[[dict[str, Any]], None]


class EventLog:
    """Appends events to a file and hands them on. What a killed run wrote after its last save is dropped when it resumes."""

    def __init__(self, path: Path, on_event: OnEvent | None = None, *, enabled: bool = True) -> None:
        self._path, self._on_event, self._enabled = path, on_event, enabled
        if enabled and path.is_file():
            os.truncate(path, path.read_bytes().rfind(b"\n") + 1)  # half a line, where the run was killed while it wrote

    def emit(self, event: dict[str, Any]) -> None:
        if not self._enabled:
            return
        if event["event"] == "resumed":
            self._forget_after(event["step"])
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(event) + "\n")
        if self._on_event is not None:
            self._on_event(event)

    def _forget_after(self, step: int) -> None:
        lines = self._path.read_text(encoding="utf-8").split("\n") if self._path.is_file() else []
        kept = [line for line in lines if line and json.loads(line).get("step", 0) <= step]
        # A new file in place of the old one: a reader that follows the lines sees that they changed, and never part of one.
        write_atomically(self._path, "".join(f"{line}\n" for line in kept))
