"""What explore shows first, and what it says where the lineage cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.config.model import SkillstackConfig
from flows.explore import scene
from flows.explore.answer import Missing


def test_champion_comes_first_and_nano_is_always_there(explored: SkillstackConfig) -> None:
    labels = list(scene.look().subjects())
    assert "beta" in labels[0]
    assert "champion" in labels[0]
    assert labels[-1] == "nano (included)"


def test_no_lineage_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    scene.use(SkillstackConfig(state_dir=tmp_path / "nothing"))
    now = scene.look()
    assert isinstance(now.records, Missing)
    assert "no round has run yet" in now.records.sentence()
    assert list(now.subjects()) == ["nano (included)"]
    assert list(tmp_path.iterdir()) == []  # not even the folder was made


def test_a_server_that_is_away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    scene.use(SkillstackConfig(state_dir=tmp_path))
    now = scene.look()
    assert isinstance(now.records, Missing)
    assert "no MLflow server answers" in now.records.sentence()
    assert "secret" not in now.records.sentence()


def test_a_database_that_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.db").write_bytes(b"this is no database" * 100)
    scene.use(SkillstackConfig(state_dir=tmp_path))
    assert isinstance(scene.look().records, Missing)
