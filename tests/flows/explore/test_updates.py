"""Sources of updates that can be compared."""

from __future__ import annotations

from flows.config.model import SkillstackConfig
from flows.explore.answer import Missing
from flows.explore.scene import Scene
from flows.explore.updates import GRADIENT, list_sources


def test_sources_without_a_lineage() -> None:
    away = Missing("here", "nothing", "")
    assert list(list_sources(Scene(SkillstackConfig(), away, away), "nano (included)")) == [GRADIENT]
