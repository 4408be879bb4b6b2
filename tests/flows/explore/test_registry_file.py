"""The list of models from the database's file is the list that MLflow gives; where the file does not say enough, MLflow is asked."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from flows.config.model import SkillstackConfig, TrackingConfig
from flows.explore import scene
from flows.explore.answer import Missing
from flows.explore.registry_file import read_versions


@pytest.fixture
def copied(lineage_state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SkillstackConfig:
    """A database of its own, with the lineage's rows."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copyfile(lineage_state / "mlflow.db", tmp_path / "mlflow.db")
    return SkillstackConfig(state_dir=tmp_path)


def change(config: SkillstackConfig, statement: str) -> None:
    with closing(sqlite3.connect(config.state_dir / "mlflow.db")) as database, database:
        assert database.execute(statement).rowcount > 0


def test_the_same_models_as_mlflow_lists(explored: SkillstackConfig) -> None:
    found = read_versions(explored)
    records = scene.look().records
    assert found is not None
    assert not isinstance(records, Missing)
    assert scene.version_subjects(found) == scene.version_subjects(records)
    assert scene.list_subjects() == scene.look().subjects()
    assert [(each.version, each.champion) for each in found] == [(1, False), (2, False), (3, True), (4, False)]


def test_a_version_whose_weights_were_deleted_is_not_shown(copied: SkillstackConfig) -> None:
    columns, values = "name, version, key, value", "'skillstack', 3, 'skillstack.collected', '2026-01-01T00:00:00Z'"
    change(copied, f"INSERT INTO model_version_tags ({columns}) VALUES ({values})")
    scene.use(copied)
    assert scene.list_subjects() == scene.look().subjects()
    assert not any("champion" in label for label in scene.list_subjects())


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE experiments SET lifecycle_stage = 'deleted' WHERE name = 'skillstack'",
        "DELETE FROM model_version_tags WHERE key = 'skillstack.checkpoint' AND version = 2",
        "DELETE FROM model_version_tags WHERE key = 'skillstack.parent_run' AND version = 2",
    ],
    ids=["no experiment", "no checkpoint", "made by hand"],
)
def test_mlflow_is_asked_where_the_file_does_not_say_enough(copied: SkillstackConfig, statement: str) -> None:
    assert read_versions(copied) is not None
    change(copied, statement)
    assert read_versions(copied) is None


def test_no_file_no_schema_no_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lineage_state: Path) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config = SkillstackConfig(state_dir=tmp_path)
    assert read_versions(config) is None
    (tmp_path / "mlflow.db").write_bytes(b"this is no database" * 100)
    assert read_versions(config) is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert read_versions(SkillstackConfig(state_dir=lineage_state)) is None
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert read_versions(SkillstackConfig(state_dir=lineage_state, tracking=TrackingConfig(model_name="another"))) == []
