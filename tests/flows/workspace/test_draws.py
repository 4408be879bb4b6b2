"""Suites that draw by margin name the evaluation of the model on all of their items; the others are left as they are."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evals.config import SuiteConfig
from flows.workspace import draws

PLAIN = SuiteConfig(name="plain", source="plain.jsonl", items=5)
DRAWN = SuiteConfig(name="drawn", source="drawn.jsonl", items=5, draw="margin")
SEALED = SuiteConfig(name="sealed", source="sealed.jsonl", items=5, draw="margin", sealed=True)


def test_only_drawn_suites_are_read_on_all_items(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[SuiteConfig] = []

    def evaluate(_workspace: Any, _model: Path, _digest: str, suites: list[SuiteConfig], _label: str) -> SimpleNamespace:
        asked.extend(suites)
        return SimpleNamespace(folder=tmp_path)

    monkeypatch.setattr(draws, "evaluate_model", evaluate)
    found = {suite.name: suite for suite in draws.drawn_by(None, tmp_path, "0", [PLAIN, DRAWN, SEALED], "base")}  # type: ignore[arg-type]
    assert [(suite.name, suite.items, suite.draw) for suite in asked] == [("drawn", None, "even")]
    assert {name: suite.pool for name, suite in found.items()} == {"plain": "", "drawn": str(tmp_path), "sealed": ""}


def test_nothing_is_read_where_nothing_is_drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(draws, "evaluate_model", lambda *_: pytest.fail("read without need"))
    assert draws.drawn_by(None, tmp_path, "0", [PLAIN], "base") == [PLAIN]  # type: ignore[arg-type]
    assert [suite.draw for suite in draws.drawn_evenly([PLAIN, DRAWN])] == ["even", "even"]
