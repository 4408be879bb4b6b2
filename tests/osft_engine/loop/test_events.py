"""metrics.jsonl: events are there at once, and what a killed run wrote after its last save is gone when it resumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from osft_engine.loop.events import EventLog


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_event_is_in_the_file_before_it_is_handed_on(tmp_path: Path) -> None:
    path, seen = tmp_path / "metrics.jsonl", []
    log = EventLog(path, lambda event: seen.append((event, _lines(path)[-1])))
    log.emit({"event": "step", "step": 1})
    assert seen == [({"event": "step", "step": 1}, {"event": "step", "step": 1})]


def test_a_resumed_run_forgets_the_steps_that_it_makes_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = EventLog(path)
    for event in ({"event": "start"}, *({"event": "step", "step": step} for step in range(1, 6))):
        log.emit(event)
    path.write_bytes(path.read_bytes() + b'{"event": "step", "st')  # killed while it wrote
    again = EventLog(path)
    again.emit({"event": "resumed", "step": 3})
    again.emit({"event": "step", "step": 4})
    assert [(event["event"], event.get("step")) for event in _lines(path)] == [
        ("start", None), ("step", 1), ("step", 2), ("step", 3), ("resumed", 3), ("step", 4),
    ]  # fmt: skip


def test_a_process_that_does_not_lead_writes_nothing(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    EventLog(tmp_path / "metrics.jsonl", seen.append, enabled=False).emit({"event": "step", "step": 1})
    assert not list(tmp_path.iterdir())
    assert seen == []
