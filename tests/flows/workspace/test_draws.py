"""Suites that draw by margin name the evaluation of the model on all of their items; the others are left as they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evals.config import SuiteConfig
from flows.workspace import draws

PLAIN = SuiteConfig(name="plain", source="plain.jsonl", items=5)
DRAWN = SuiteConfig(name="drawn", source="drawn.jsonl", items=5, draw="margin")
SEALED = SuiteConfig(name="sealed", source="sealed.jsonl", items=5, draw="margin", sealed=True)


def test_only_drawn_suites_are_read_on_all_items(tmp_path: Path) -> None:
    asked: list[SuiteConfig] = []

    def evaluate(suites: Sequence[SuiteConfig]) -> Any:
        asked.extend(suites)
        return SimpleNamespace(folder=tmp_path)

    found = {suite.name: suite for suite in draws.drawn_by([PLAIN, DRAWN, SEALED], evaluate)}
    assert [(suite.name, suite.items, suite.draw) for suite in asked] == [("drawn", None, "even")]
    assert {name: suite.pool for name, suite in found.items()} == {"plain": "", "drawn": str(tmp_path), "sealed": ""}


def test_nothing_is_read_where_nothing_is_drawn() -> None:
    assert draws.drawn_by([PLAIN], lambda _: pytest.fail("read without need")) == [PLAIN]
    assert [suite.draw for suite in draws.drawn_evenly([PLAIN, DRAWN])] == ["even", "even"]
