"""Views 4 to 6 on a real lineage: what they show is what the files and MLflow hold, and nothing is written."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
import torch

from data_contracts.errors import LineageError
from data_contracts.manifests import LayerCapacity
from flows.config.model import SkillstackConfig
from flows.explore import scene
from flows.explore.answer import Missing, attempt
from flows.explore.reading import ReadingClient, open_for_reading, read_rounds
from flows.explore.views import capacity, dynamics, matrix
from flows.lineage import LiveStage, connect, open_round
from osft_engine.subspace.protection import LayerUpdate, trainable_count

LAYERS = ("model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj")


def digest_of(folder: Path) -> str:
    """Every name and byte below a folder."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        found.update(str(path.relative_to(folder)).encode())
        if path.is_file():
            found.update(path.read_bytes())
    return found.hexdigest()


def test_reading_changes_no_byte(explored: SkillstackConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = digest_of(explored.state_dir)
    now = scene.look()
    assert not isinstance(now.records, Missing)
    assert not isinstance(now.lineage, Missing)
    view = matrix.view_lineage(now.records)
    matrix.matrix_figure(view)
    capacity.capacity_figure(capacity.view_capacity(now.records))
    dynamics.curve_of_round(now.lineage, now.records[1])
    assert digest_of(explored.state_dir) == before
    assert list(tmp_path.iterdir()) == []


def test_the_client_refuses_to_write(explored: SkillstackConfig) -> None:
    store = open_for_reading(explored)
    for method in ("set_tag", "log_batch", "create_run", "delete_run", "set_registered_model_alias", "transition_model_version_stage"):
        with pytest.raises(LineageError, match="only reads"):
            getattr(store.client, method)
    # Even MLflow's own client, were it reached, would be refused by the database.
    inner = store.client._client
    with pytest.raises(Exception, match="readonly database"):
        inner.set_tag(read_rounds(store)[0].run_id, "a", "b")
    assert isinstance(store.client, ReadingClient)


def test_champion_comes_first_and_nano_is_always_there(explored: SkillstackConfig) -> None:
    labels = list(scene.look().subjects())
    assert "beta" in labels[0]
    assert "champion" in labels[0]
    assert labels[-1] == "nano (included)"


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
    layers = {"a": LayerCapacity(shape=(30, 20), protected=10, trainable=10, free=5, leak=0.0)}
    thin = dynamics.measure_use({"a": LayerUpdate(left * strengths, right)}, layers)
    dense = dynamics.measure_use({"a": LayerUpdate((left * strengths) @ right.T, None)}, layers)
    assert [use.used for use in (*thin, *dense)] == [3, 3]
    assert thin[0].share == 0.3
    assert dynamics.measure_use({"a": LayerUpdate(left * 0, right)}, layers)[0].used == 0
    assert len(dynamics.use_figure(thin).data) == 1


def test_matrix_and_the_items_behind_a_cell(explored: SkillstackConfig) -> None:
    now = scene.look()
    assert not isinstance(now.records, Missing)
    view = matrix.view_lineage(now.records)
    assert view.audit.matrix[view.rows.index("round 2 beta (osft)")][view.suites.index("alpha")] == pytest.approx(34 / 40)
    row = view.rows.index("round 3 gamma (full)")
    assert row not in view.audit.lineage_rows
    items = matrix.changed_items(view, row, "alpha")
    lost = [item for item in items if item.fate == "lost"]
    assert len(lost) == 34 - 5
    assert lost[0].prompt == "question 5 of alpha"
    assert (lost[0].before, lost[0].after) == ("answer 5", "something else")
    assert "29 lost and 0 gained of 40 items" in matrix.cell_sentence(view, row, "alpha", items)
    assert matrix.worst_cell(view) == ("round 3 gamma (full)", "beta")
    assert matrix.cell_of([{"x": "alpha", "y": "round 2 beta (osft)"}], view) == ("round 2 beta (osft)", "alpha")
    assert matrix.cell_of([], view) is None
    assert matrix.cell_of([{"x": "no such suite", "y": "?"}], view) is None
    assert len(matrix.forgetting_figure(view).data) == 2
    assert len(matrix.matrix_rows(view)) == 4


def test_capacity_over_the_champions_rounds(explored: SkillstackConfig) -> None:
    now = scene.look()
    assert not isinstance(now.records, Missing)
    view = capacity.view_capacity(now.records)
    assert len(view.rounds) == 2  # the blocked round is no part of the line
    newest = view.layers[-1]
    for ratio in (0.05, 0.25, 0.5):
        count, tightest = capacity.rounds_left(newest, ratio)
        assert count == min(layer.free // trainable_count(layer.shape[1], ratio) for layer in newest.values())
        assert tightest in newest
    shares = dict(zip(capacity.layer_names(view), capacity.free_shares(view)[-1], strict=True))
    assert shares == {LAYERS[0]: pytest.approx(60 / 160), LAYERS[1]: pytest.approx(60 / 416)}
    assert "1 more round at ratio 0.10 fit" in capacity.sentence(view, 0.1)
    assert len(capacity.trend_figure(view, 0.25).data) == 2


# ------------------------------------------------------------------------------------------------ what can be missing


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


def test_a_run_deleted_meanwhile_and_files_gone(lineage_state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    state = tmp_path / "state"
    shutil.copytree(lineage_state, state, symlinks=True)
    scene.use(SkillstackConfig(state_dir=state))
    now = scene.look()
    assert not isinstance(now.records, Missing)
    assert not isinstance(now.lineage, Missing)
    writer = connect(f"sqlite:///{state / 'mlflow.db'}", model_name="skillstack", experiment="skillstack", state_dir=state)
    writer.client.delete_run(now.records[2].run_id)
    shutil.rmtree(state / "stages" / "evaluate" / "1")
    (state / "stages" / "train" / "1" / "manifest.json").unlink()
    # What was read before the deletion, and what is read after it:
    assert isinstance(attempt(lambda: matrix.view_lineage(scene.look().records)), matrix.LineageView)  # type: ignore[arg-type]
    again = scene.look()
    assert not isinstance(again.records, Missing)
    assert not isinstance(again.lineage, Missing)
    gone = attempt(lambda: dynamics.curve_of_round(again.lineage, again.records[2]))  # type: ignore[arg-type]
    assert isinstance(gone, Missing)
    assert "deleted" in gone.sentence()
    view = matrix.view_lineage(again.records)
    assert any("round 1 alpha" in line for line in view.left_out)
    assert any("deleted" in line for line in view.left_out)
    assert len(view.rows) == 3
    left = capacity.view_capacity(again.records)
    assert len(left.rounds) == 1
    assert left.left_out
    assert isinstance(attempt(lambda: capacity.view_capacity(again.records[:1])), Missing)
