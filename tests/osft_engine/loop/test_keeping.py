"""General text counted beside the drop's loss: the estimate against another computation, and what it keeps of the model's answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from data_contracts.errors import ConfigError
from data_contracts.rendering import TextRenderer
from osft_engine.compute.distributed import World
from osft_engine.config import TrainConfig
from osft_engine.data.batches import micro_batches
from osft_engine.loop.keeping import Keeper, Sensitivity, measure_sensitivity
from osft_engine.loop.prepare import refuse_sharded
from osft_engine.method.attach import OsftAttachment, find_targets, weight_of
from osft_engine.run import TrainRun
from osft_engine.subspace.linear import UpdatedLinear
from osft_engine.subspace.protection import AllowedUpdate
from osft_engine.train import train_candidate

MakeRun = Callable[..., TrainRun]
TEXTS = ("The 3 cats sleep.", "A dog of the house, and another one.")


def _attached(folder: Path, execution: Any) -> OsftAttachment:
    """Every layer free in a quarter of its input directions, at random; the core is zero."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    targets = find_targets(model)
    allowed = {}
    for number, (name, module) in enumerate(targets.items()):
        m, n = weight_of(module).shape
        R = torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(number)))[0][:, : n // 4].contiguous()
        allowed[name] = AllowedUpdate((m, n), None, R, None, n - n // 4, n // 4)
    return OsftAttachment(model, targets, allowed, execution=execution)


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("execution", ["dense", "side"])
def test_sensitivity_is_that_of_gradients_taken_one_text_at_a_time(
    base_folder: Path, tokenizer: PreTrainedTokenizerFast, execution: str, layout: Any
) -> None:
    renderer = TextRenderer(tokenizer)
    examples = [each for text in TEXTS for each in renderer.render_row({"text": text}, text, max_tokens=64)]
    (batch,) = micro_batches(examples, max_tokens=256, layout=layout)
    attached = _attached(base_folder, execution)
    measured = measure_sensitivity(attached.model, attached.layers, [batch], seed=3)

    # The same with plain transformers: texts alone, without padding; labels as they were drawn, in the order of the batch.
    model = AutoModelForCausalLM.from_pretrained(base_folder)
    texts = sorted(examples, key=lambda each: -len(each.ids))
    logits = [model(torch.tensor([each.ids])).logits[0, :-1] for each in texts]
    drawn = torch.multinomial(torch.softmax(torch.cat(logits).detach(), -1), 1, generator=torch.Generator().manual_seed(3))[:, 0]
    sums: dict[str, list[Any]] = {name: [0.0, 0.0] for name in find_targets(model)}
    for each, labels in zip(texts, drawn.split([len(each.ids) - 1 for each in texts]), strict=True):
        kept: dict[str, tuple[Tensor, Tensor]] = {}

        def keep(x: Any, y: Tensor, name: str, kept: dict[str, tuple[Tensor, Tensor]] = kept) -> None:
            kept[name] = (x[0][0], y)
            y.retain_grad()

        hooks = [
            module.register_forward_hook(lambda _, x, y, name=name, keep=keep: keep(x, y, name))
            for name, module in find_targets(model).items()
        ]
        loss = torch.nn.functional.cross_entropy(model(torch.tensor([each.ids])).logits[0, :-1], labels, reduction="sum")
        loss.backward()
        for hook in hooks:
            hook.remove()
        for name, (x, y) in kept.items():
            reduced = x.detach().double().numpy() @ attached.layers[name].allowed.right.double().numpy()  # type: ignore[union-attr]
            sums[name][0] += reduced.T @ reduced
            sums[name][1] += (y.grad[0].double().numpy() ** 2).sum(0)  # type: ignore[index]
    tokens = sum(len(each.ids) for each in examples)
    assert measured.keys() == sums.keys()
    for name, (K, g) in sums.items():
        np.testing.assert_allclose(measured[name].inputs.numpy(), K / tokens, rtol=2e-3, atol=2e-5 * np.abs(K / tokens).max())
        np.testing.assert_allclose(measured[name].outputs.numpy(), g / tokens, rtol=2e-3, atol=2e-5 * np.abs(g / tokens).max())
    assert all(layer.core.grad is None for layer in attached.layers.values())


def test_what_is_added_is_the_slope_of_the_estimate_times_the_weight() -> None:
    random = torch.Generator().manual_seed(1)
    basis, core = torch.linalg.qr(torch.randn(9, 4, generator=random))[0], torch.randn(6, 4, generator=random)
    layer = UpdatedLinear(torch.randn(6, 9, generator=random), None, AllowedUpdate((6, 9), None, basis, None, 5, 4))
    with torch.no_grad():
        layer.core.copy_(core)
    layer.core.grad = torch.ones(6, 4)
    root = torch.randn(4, 4, generator=random)
    found = Sensitivity(root @ root.T, torch.rand(6, generator=random))
    value = Keeper({"a": layer}, {"a": found}, weight=3.0).add_gradients()

    K, g, C = found.inputs.double().numpy(), found.outputs.double().numpy(), core.double().numpy()

    def estimate(at: Any) -> float:
        return 0.5 * float(sum(g[i] * at[i] @ K @ at[i] for i in range(6)))

    step, slope = 1e-6, np.zeros((6, 4))
    for i in range(6):
        for j in range(4):
            moved = C.copy()
            moved[i, j] += step
            slope[i, j] = (estimate(moved) - estimate(C)) / step
    assert value == pytest.approx(estimate(C), rel=1e-5)
    np.testing.assert_allclose(layer.core.grad.numpy(), 1.0 + 3.0 * slope, rtol=1e-4, atol=1e-4)


def _divergence(base: Path, candidate: Path, tokenizer: PreTrainedTokenizerFast, general: Path) -> float:
    """Nats per token by which a candidate's answers to general text differ from the base's, by plain transformers."""
    before, after = (AutoModelForCausalLM.from_pretrained(folder).eval() for folder in (base, candidate))
    total, count = 0.0, 0
    for line in general.read_text().splitlines():
        ids = torch.tensor([[256, *tokenizer(json.loads(line)["text"])["input_ids"]]])
        with torch.no_grad():
            old, new = (torch.log_softmax(model(ids).logits[0].double(), -1) for model in (before, after))
        total += float((old.exp() * (old - new)).sum())
        count += ids.shape[1]
    return total / count


def test_general_text_is_kept_and_the_drop_is_learned(make_run: MakeRun, base_folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    settings = {"num_epochs": 20, "learning_rate": 1e-2, "unfreeze_rank_ratio": 0.5}
    lost, losses = {}, {}
    for weight in (0.0, 10.0):
        run = make_run(f"keep-{weight:g}", keep_general=weight, **settings)
        manifest = train_candidate(run)
        assert manifest.summary is not None
        assert manifest.summary.max_leak is not None
        assert manifest.summary.max_leak < 1e-6
        assert run.calibration is not None
        lost[weight] = _divergence(base_folder, run.out_dir / "model", tokenizer, run.calibration)
        losses[weight] = manifest.summary.final_loss
        steps = [json.loads(line) for line in (run.out_dir / "metrics.jsonl").read_text().splitlines()]
        assert all(("general" in step) == (weight > 0) for step in steps if step["event"] == "step")
    assert lost[10.0] < 0.5 * lost[0.0]
    assert losses[10.0] < 0.75 * manifest.summary.first_loss


def test_a_run_that_was_stopped_ends_with_the_same_model(make_run: MakeRun) -> None:
    settings = {"num_epochs": 2, "keep_general": 10.0, "save_every_steps": 1}
    whole, place = train_candidate(make_run("whole", **settings)), make_run("cut", **settings)

    def stop(event: dict[str, Any]) -> None:
        if event.get("step") == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_candidate(place, on_event=stop)
    assert train_candidate(place).model_sha256 == whole.model_sha256
    assert train_candidate(make_run("without", **settings | {"keep_general": 0.0})).model_sha256 != whole.model_sha256


def test_where_it_cannot_count_is_said_before_training() -> None:
    with pytest.raises(ValidationError, match="keep_general does not apply here: set protect to activations"):
        TrainConfig(keep_general=1.0, protect="weights")
    assert TrainConfig(keep_general=1.0, method="full").keep_general == 1.0  # a baseline of a project that sets it
    with pytest.raises(ConfigError, match=r"train\.keep_general: runs in one process"):
        refuse_sharded(TrainConfig(keep_general=1.0), torch.float32, World(0, 2))
