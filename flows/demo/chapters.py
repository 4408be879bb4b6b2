"""The parts of a demo's story."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_contracts.manifests import Decision


@dataclass(frozen=True)
class Chapter:
    """One round of the demo: its drop, its training settings (added to the config's `train`), and the expected decision of the gate."""

    title: str
    skill: str
    drop: Path
    train: Mapping[str, Any] = field(default_factory=dict)
    expected: Decision = Decision.PASS


@dataclass(frozen=True)
class Story:
    """`config` is the content of skillstack.yaml; its paths are relative to the story's folder."""

    config: dict[str, Any]
    chapters: tuple[Chapter, ...]


@dataclass(frozen=True)
class Round:
    """A chapter before its drop is written."""

    month: str
    skill: str
    says: str
    train: Mapping[str, Any] = field(default_factory=dict)
    expected: Decision = Decision.PASS
