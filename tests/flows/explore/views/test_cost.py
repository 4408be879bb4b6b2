"""View 3: parameters are counted as the engine makes them; estimates are near what was measured, and the error shown is the error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from data_contracts.errors import CheckpointError
from flows.base_models.resolve import NANO
from flows.explore.views.calibration import calibrated, error_rows, load_measured
from flows.explore.views.cost import Method, estimate
from flows.explore.views.cost_views import COLOURS, QUANTITIES, cost_figure, cost_rows
from flows.explore.views.model_shape import known_shapes, read_shape, shape_of_config
from osft_engine.checkpoint.read import load_model
from osft_engine.config import TrainConfig
from osft_engine.method.attach import OsftAttachment, allowed_updates, find_targets
from osft_engine.subspace.protection import protect_activations, protect_weights, protect_weights_block


@pytest.mark.parametrize("ratio", [0.1, 0.25, 1.0])
@pytest.mark.parametrize("method", ["activations", "weights", "weights compact", "weights_block"])
def test_trainable_is_what_the_engine_trains(method: Method, ratio: float) -> None:
    shape = read_shape(NANO, "nano")
    facts, rows = load_measured()
    speeds = calibrated(read_shape(known_shapes()["SmolLM2-135M"]), rows, rows[0].tokens)
    model = load_model(NANO, TrainConfig(device="cpu"))
    build = {
        "activations": lambda _name, W: protect_activations((W.shape[0], W.shape[1]), torch.eye(W.shape[1]), ratio),
        "weights": lambda _name, W: protect_weights(W, ratio),
        "weights compact": lambda _name, W: protect_weights(W, ratio, compact=True),
        "weights_block": lambda _name, W: protect_weights_block(W, ratio),
    }[method]
    targets = find_targets(model)
    attachment = OsftAttachment(model, targets, allowed_updates(targets, build), tokens_per_step=256.0)
    counted = estimate(shape, method, ratio, 256, speeds)
    assert counted.trainable == sum(value.numel() for value in attachment.trainable().values())
    assert counted.optimizer_bytes == 8 * counted.trainable
    assert facts["model"]


def test_estimates_are_near_the_measured_table() -> None:
    shape = read_shape(known_shapes()["SmolLM2-135M"])
    facts, rows = load_measured()
    tokens = min(row.tokens for row in rows)
    speeds = calibrated(shape, rows, tokens)
    by_method = {row.method: row for row in rows if row.tokens == tokens}
    assert estimate(shape, "full", 1.0, tokens, speeds).trainable == by_method["full"].trainable
    for name, method in (("full", "full"), ("lora r=16", "lora")):
        cost = estimate(shape, method, 1.0, tokens, speeds)  # type: ignore[arg-type]
        assert cost.step_seconds == pytest.approx(by_method[name].cpu_seconds, rel=1e-6)
    predicted = estimate(shape, "activations", facts["ratio"], tokens, speeds)
    measured = by_method["osft activations"]
    assert predicted.trainable == measured.trainable
    assert predicted.memory_bytes == pytest.approx(measured.memory_bytes, rel=0.25)
    assert predicted.step_seconds == pytest.approx(measured.cpu_seconds, rel=0.5)
    shown = {row["method"]: row for row in error_rows(shape, rows, facts["ratio"]) if row["tokens"] == str(tokens)}
    assert f"{predicted.memory_bytes / measured.memory_bytes - 1:+.0%}" in shown["osft activations"]["memory over bare"]
    assert [name for name, row in shown.items() if row["used to calibrate"] == "yes"] == ["full", "lora r=16"]


def test_figures_and_table() -> None:
    shape = read_shape(known_shapes()["SmolLM2-135M"])
    _, rows = load_measured()
    speeds = calibrated(shape, rows, rows[0].tokens)
    for quantity in QUANTITIES:
        assert len(cost_figure(shape, quantity, 0.25, 512, speeds).data) == len(COLOURS) + 2
    assert len(cost_rows(shape, 0.25, 512, speeds)) == 6


def test_bad_configs_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        read_shape(tmp_path)
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match="not JSON"):
        read_shape(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no-such-model"}), encoding="utf-8")
    with pytest.raises(CheckpointError, match="causal language model"):
        read_shape(tmp_path)
    with pytest.raises(CheckpointError, match="causal language model"):
        shape_of_config({}, "nothing")
    (tmp_path / "config.json").write_text("[]", encoding="utf-8")
    with pytest.raises(CheckpointError):
        read_shape(tmp_path)
