"""View 3: parameters are counted as the engine makes them; estimates are near what was measured, and the error shown is the error."""

from __future__ import annotations

import pytest
import torch

from flows.base_models.resolve import NANO
from flows.explore.views.calibration import calibrated, load_measured
from flows.explore.views.cost import Method, estimate
from flows.explore.views.model_shape import known_shapes, read_shape
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
