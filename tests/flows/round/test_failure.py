"""A failed round is recorded, and its cause is what is reported."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from data_contracts.errors import LineageError
from flows.config.model import SkillstackConfig
from flows.round import failure
from flows.workspace.workspace import Workspace


def test_a_failure_that_cannot_be_recorded_does_not_replace_the_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lineage: Any = SimpleNamespace()
    workspace, run = Workspace(SkillstackConfig(state_dir=tmp_path), lineage), SimpleNamespace(round=3)

    def away(*_: object) -> None:
        raise LineageError("http://mlflow", "no answer", "start it")

    monkeypatch.setattr(failure, "record_failure", away)
    with pytest.raises(ZeroDivisionError), failure.failure_recorded(workspace, run):  # type: ignore[arg-type]
        raise ZeroDivisionError
    recorded: list[str] = []
    monkeypatch.setattr(failure, "record_failure", lambda _lineage, _run, line: recorded.append(line))
    with pytest.raises(KeyboardInterrupt), failure.failure_recorded(workspace, run):  # type: ignore[arg-type]
        raise KeyboardInterrupt
    assert recorded == ["KeyboardInterrupt: "]
