"""View 4: a training's curve, while it runs as well, and how much of the subspace an update uses."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from data_contracts.errors import LineageError
from data_contracts.manifests import LayerCapacity
from flows.config.model import SkillstackConfig
from flows.explore import scene
from flows.explore.answer import Missing
from flows.explore.reading import open_for_reading, read_rounds
from flows.explore.views import dynamics
from flows.lineage import LiveStage, connect, open_round
from osft_engine.subspace.protection import LayerUpdate


def test_curve_is_what_was_trained(explored: SkillstackConfig) -> None:
    now = scene.look()
    assert not isinstance(now.records, Missing)
    assert not isinstance(now.lineage, Missing)
    curve = dynamics.curve_of_round(now.lineage, now.records[1])
    assert list(curve.points["loss"]) == [(step, pytest.approx(2.0 / step)) for step in range(1, 6)]
    assert not curve.running
    assert len(dynamics.curve_figure(curve).data) == 3
    assert "5 steps" in curve.sentence()
    with pytest.raises(LineageError, match="no training curve"):
        dynamics.curve_of_round(now.lineage, now.records[0])
    with pytest.raises(LineageError, match="no protected subspace"):
        dynamics.use_of_round(now.records[3])


def test_a_training_is_seen_while_it_runs(lineage_state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copyfile(lineage_state / "mlflow.db", tmp_path / "mlflow.db")
    lineage = connect(f"sqlite:///{tmp_path / 'mlflow.db'}", model_name="skillstack", experiment="skillstack", state_dir=tmp_path)
    run = open_round(lineage, 4, "delta")
    with LiveStage(lineage, run, "train", every=30.0) as live:
        live.add(1, {"loss": 3.0, "lr": 0.1, "tokens_per_second": 9.0})
        live._send()
        store = open_for_reading(SkillstackConfig(state_dir=tmp_path))
        curve = dynamics.curve_of_round(store, read_rounds(store)[-1])
        assert curve.running
        assert list(curve.points["loss"]) == [(1, 3.0)]
        assert "training now" in curve.sentence()


def test_subspace_use_counts_directions() -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = torch.linalg.qr(torch.randn(30, 10, generator=generator))[0], torch.linalg.qr(torch.randn(20, 10, generator=generator))[0]
    strengths = torch.tensor([10.0, 10.0, 10.0] + [0.1] * 7)
    layers = {"a": LayerCapacity(shape=(30, 20), protected=10, trainable=10, free=5, leak=3.2e-7)}
    thin = dynamics.measure_use({"a": LayerUpdate(left * strengths, right)}, layers)
    dense = dynamics.measure_use({"a": LayerUpdate((left * strengths) @ right.T, None)}, layers)
    assert [use.used for use in (*thin, *dense)] == [3, 3]
    assert thin[0].share == 0.3
    assert dynamics.measure_use({"a": LayerUpdate(left * 0, right)}, layers)[0].used == 0
    assert len(dynamics.use_figure(thin).data) == 1
    assert dynamics.use_rows(thin)[0]["leak"] == "less than 0.0001"
