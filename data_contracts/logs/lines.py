"""Log lines as JSON, one object a line, where SKILLSTACK_LOG_FORMAT is `json`; nothing here does anything where it is not.

    {"time": "2026-11-26T15:04:05.123+00:00", "level": "INFO", "logger": "flows.round", "round": 3, "stage": "train", "skill": "sql",
     "message": "train begins"}

`start` makes every line of this process one of these: of the loggers, of warnings, of what is printed to stderr, of an exception that
nobody caught. Values of secret environment variables and what looks like a credential are masked. Standard library and data_contracts
only, because the trainer's process uses it too.
"""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from types import TracebackType
from typing import Any, TextIO

from data_contracts.privacy.masker import Masker

FORMAT, CONTEXT = "SKILLSTACK_LOG_FORMAT", "SKILLSTACK_LOG_CONTEXT"
PACKAGES = ("flows", "evals", "osft_engine", "data_contracts")
"""Loggers that say what a round does; of all others only warnings are written."""
_NOTHING: Mapping[str, Any] = {"round": None, "stage": None, "skill": None}
_facts: dict[str, Any] = dict(_NOTHING)
"""What this process works on. Not a context variable: a line of another thread is about the same round."""


def json_wanted(environment: Mapping[str, str] = os.environ) -> bool:
    return environment.get(FORMAT, "").strip().lower() == "json"


@contextmanager
def about(**facts: Any) -> Iterator[None]:
    """Say in every line of the body which round, stage and skill it is about."""
    before = dict(_facts)
    _facts.update(facts)
    try:
        yield
    finally:
        _facts.clear()
        _facts.update(before)


def for_child() -> dict[str, str]:
    """The environment of a process that works for this one, so that its lines are about the same round."""
    return {**os.environ, CONTEXT: json.dumps(_facts)} if json_wanted() else dict(os.environ)


def start(*, output: bool = False) -> None:
    """Make every line of this process JSON if that is wanted. `output`: what is printed to stdout too, where that is a log."""
    if not json_wanted():
        return
    if given := os.environ.get(CONTEXT):
        _facts.update({name: json.loads(given).get(name) for name in _NOTHING})
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, logging.StreamHandler) and not isinstance(each, JsonHandler)]:
        root.removeHandler(handler)
    if not any(isinstance(handler, JsonHandler) for handler in root.handlers):
        root.addHandler(JsonHandler())
    for name in PACKAGES:
        logging.getLogger(name).setLevel(logging.INFO)
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    if not isinstance(sys.stderr, Printed):
        sys.stderr = Printed("stderr", sys.stderr)
    if output and not isinstance(sys.stdout, Printed):
        sys.stdout = Printed("stdout", sys.stdout)


class JsonHandler(logging.StreamHandler[TextIO]):
    """Writes each record as one JSON object on stderr. Prefect makes it where its own console handler stood, with that one's arguments."""

    def __init__(self, stream: TextIO | None = None, styles: object = None) -> None:
        chosen = sys.stderr if stream is None else stream
        super().__init__(chosen.real if isinstance(chosen, Printed) else chosen)

    def format(self, record: logging.LogRecord) -> str:
        return line_of(record)


def line_of(record: logging.LogRecord) -> str:
    """One line. Prefect's own records of a task run carry its name, which is that of the stage."""
    said: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname,
        "logger": record.name,
        **_facts,
        "message": _masker()(record.getMessage()),
    }
    said["stage"] = getattr(record, "task_name", None) or said["stage"]
    if (run := getattr(record, "flow_run_name", None)) is not None:
        said["flow_run"] = run
    if record.exc_info:
        said["exception"] = _masker()("".join(traceback.format_exception(*record.exc_info)))
    return json.dumps(said, default=str)  # ASCII: any terminal and any collector can take it, and a line break is escaped


@cache
def _masker() -> Masker:
    return Masker(os.environ)


def message_of(line: str) -> str:
    """The message of a line of a log, which may be JSON or plain text."""
    try:
        return str(json.loads(line)["message"]) if line.startswith("{") else line
    except (ValueError, KeyError, TypeError):
        return line


def reason_of(output: str) -> str:
    """Why a process ended, from what it wrote to stderr: its last line; "" if it wrote nothing.

    Where that line ends a traceback, the first line of the exception: CUDA's messages, for one, end with advice to their developers.
    """
    lines = [line.rstrip() for line in output.replace("\r", "\n").splitlines() if line.strip()]
    if not lines:
        return ""
    last = message_of(lines[-1].strip())
    if last.startswith("error: "):
        return last.removeprefix("error: ")
    begun = [at for at, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")]
    after = lines[begun[-1] + 1 :] if begun else []
    return next((line for line in after if not line.startswith(" ")), last)


class Printed(io.TextIOBase):
    """Stands for stderr or stdout: each line that is printed becomes a log line."""

    def __init__(self, name: str, real: TextIO) -> None:
        self._name, self.real, self._begun = name, real, ""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.real.fileno()

    def write(self, text: str) -> int:
        *whole, begun = (self._begun + text.replace("\r\n", "\n")).split("\n")
        for line in whole:
            self._log(line.rpartition("\r")[2])
        self._begun = begun.rpartition("\r")[2]  # a progress bar writes over itself; what stands at its end is written
        return len(text)

    def flush(self) -> None:
        self.real.flush()

    def close(self) -> None:
        """What was printed last, without a line break."""
        self._log(self._begun)
        self._begun = ""

    def _log(self, line: str) -> None:
        if not line.strip():
            return
        levels = {"error": logging.ERROR, "warning": logging.WARNING}
        level = levels.get(line.partition(":")[0].strip().lower(), logging.INFO)
        print(line_of(logging.LogRecord(self._name, level, "", 0, line.rstrip(), None, None)), file=self.real, flush=True)


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("uncaught").critical("%s: %s", kind.__name__, error, exc_info=(kind, error, trace))
