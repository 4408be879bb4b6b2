"""The share of trainable directions of every layer is what its policy's formula says, recomputed here from what the layers read and write.

Importance (the paper's rule) and energy are recomputed in float64 by numpy, one example at a time and without padding, so that neither
the engine's batching nor its linear algebra can hide a fault of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from data_contracts.errors import ConfigError
from osft_engine.data.batches import micro_batches
from osft_engine.data.examples import Example
from osft_engine.method.attach import find_targets
from osft_engine.method.ranks import importance_ratios, measure_importance, similarity
from osft_engine.run import TrainRun
from osft_engine.subspace.counts import trainable_count
from osft_engine.train import train_candidate

MakeRun = Callable[..., TrainRun]
Traffic = dict[str, tuple[np.ndarray, np.ndarray]]


def _observe(model: Any, rows: Sequence[Sequence[int]]) -> Traffic:
    """What every target layer reads and writes, float64: name -> (X: tokens x in, Y: tokens x out)."""
    seen: dict[str, tuple[list[np.ndarray], list[np.ndarray]]] = {name: ([], []) for name in find_targets(model)}
    for name, (reads, writes) in seen.items():

        def keep(_: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor, reads: Any = reads, writes: Any = writes) -> None:
            reads.append(inputs[0][0].double().numpy())
            writes.append(output[0].double().numpy())

        model.get_submodule(name).register_forward_hook(keep)
    with torch.no_grad():
        for ids in rows:
            model.eval()(torch.tensor([ids]))
    return {name: (np.concatenate(reads), np.concatenate(writes)) for name, (reads, writes) in seen.items()}


def _importance(X: np.ndarray, Y: np.ndarray) -> float:
    """Linear CKA, written with features instead of Gram matrices."""
    X, Y = X - X.mean(0), Y - Y.mean(0)
    return float(np.linalg.norm(X.T @ Y) ** 2 / (np.linalg.norm(X.T @ X) * np.linalg.norm(Y.T @ Y)))


def _kept_shares(importance: Mapping[str, float], minimum: float, target: float) -> dict[str, float]:
    """kept = mrr + I (trr - mrr) with I normalised to mean 1, as the paper prints it."""
    mean = float(np.mean(list(importance.values())))
    return {name: float(np.clip(minimum + value / mean * (target - minimum), minimum, 1.0)) for name, value in importance.items()}


def test_square_layers_are_measured_as_others_are() -> None:
    """A matrix and its rotated self do the same to what they read. A cosine would call the one alike and the other not."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(200, 16, generator=generator) * torch.logspace(0, -1, 16)
    turn = torch.linalg.qr(torch.randn(16, 16, generator=generator))[0]
    wide = torch.cat([x, torch.zeros(200, 8)], dim=1)
    assert similarity(x, x @ turn) == pytest.approx(similarity(x, x), abs=1e-4)
    assert similarity(x, wide) == pytest.approx(similarity(x, x), abs=1e-4)


def test_importance_is_the_cka_of_every_layer(base_folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base_folder)
    generator = torch.Generator().manual_seed(2)
    rows = [torch.randint(0, 256, (length,), generator=generator).tolist() for length in (31, 12, 24, 7)]
    examples = [Example(tuple(ids), (False, *[True] * (len(ids) - 1)), f"row:{n}") for n, ids in enumerate(rows)]
    (batch,) = micro_batches(examples, max_tokens=256, layout="padded")
    assert batch.input_ids.numel() > batch.tokens  # there is padding that must not count
    measured = measure_importance(model, find_targets(model), [batch])
    expected = {name: _importance(X, Y) for name, (X, Y) in _observe(model, rows).items()}
    assert measured == pytest.approx(expected, rel=1e-4, abs=1e-6)
    kept = {name: 1.0 - ratio for name, ratio in importance_ratios(measured, 0.2, 0.1).items()}
    assert kept == pytest.approx(_kept_shares(expected, minimum=0.1, target=0.8), rel=1e-4)


def test_a_round_measures_importance_on_the_examples_of_the_earlier_one(
    make_run: MakeRun, make_drop: Callable[..., Path], tokenizer: PreTrainedTokenizerFast
) -> None:
    first = make_run("first", drop=make_drop(8, "earlier"), method="full")
    train_candidate(first)
    # One batch and every token: linear CKA of a sample is not the mean over its parts.
    whole = {"max_tokens_per_batch": 1024, "moment_tokens": 1024}
    settings = {"rank_policy": "importance", "protect": "weights", "unfreeze_rank_ratio": 0.3, "importance_minimum": 0.2, **whole}
    manifest = train_candidate(make_run("second", base=first.out_dir / "model", parent=first.out_dir, **settings))

    conversations = [json.loads(line)["messages"] for line in (first.drop / "clean.jsonl").read_text().splitlines()]
    rows = [tokenizer(tokenizer.apply_chat_template(messages, tokenize=False))["input_ids"] for messages in conversations]
    seen = _observe(AutoModelForCausalLM.from_pretrained(first.out_dir / "model"), rows)
    kept = _kept_shares({name: _importance(X, Y) for name, (X, Y) in seen.items()}, minimum=0.2, target=0.7)
    assert manifest.layers.keys() == kept.keys()
    assert len({layer.protected / min(layer.shape) for layer in manifest.layers.values()}) > 3
    for name, layer in manifest.layers.items():
        q = min(layer.shape)
        assert layer.protected + layer.trainable == q
        # The share rounded to whole directions, one of which is always left to train.
        assert abs(layer.protected - min(kept[name] * q, q - 1)) <= 0.5 + 1e-3


def test_importance_beyond_what_a_layer_has_is_clamped() -> None:
    importance = {"loud": 10.0, "middling": 1.0, "against": -2.0}
    ratios = importance_ratios(importance, 0.25, 0.1)
    kept = _kept_shares(importance, minimum=0.1, target=0.75)
    assert ratios == pytest.approx({name: 1.0 - share for name, share in kept.items()})
    assert ratios["loud"] == 0.0
    assert trainable_count(32, ratios["loud"]) == 1  # a layer that was named as a target still trains something
    assert ratios["against"] == 0.9
    # A target below the minimum leaves nothing to spread: every layer keeps the target.
    assert importance_ratios(importance, 0.95, 0.1) == pytest.approx(dict.fromkeys(importance, 0.95))


@pytest.mark.parametrize("values", [(0.5, -0.5), (-0.1, -0.3), (0.5, float("nan"))])
def test_importance_without_a_positive_mean_is_uniform_and_says_so(values: tuple[float, float], capsys: pytest.CaptureFixture[str]) -> None:
    assert importance_ratios(dict(zip("ab", values, strict=True)), 0.25, 0.1) == {"a": 0.25, "b": 0.25}
    warning = capsys.readouterr().err
    assert re.fullmatch(r"warning: mean layer importance is \S+, not positive: ranks are uniform\n", warning)
    assert importance_ratios({"a": 0.5, "b": 0.3}, 0.25, 0.1) != {"a": 0.25, "b": 0.25}
    assert capsys.readouterr().err == ""


def test_energy_protects_the_fewest_directions_that_hold_its_share_and_overrides_win(
    make_run: MakeRun, base_folder: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    """One run: the second block follows the policy, the first is overridden, and of two patterns that match the last decides."""
    overrides = {r"layers\.0\.": 0.75, r"layers\.0\.self_attn\.q_proj$": 0.25}
    run = make_run(rank_policy="energy", energy_share=0.9, moment_tokens=4096, rank_overrides=overrides, learning_rate=1e-2, warmup_steps=0)
    manifest = train_candidate(run)

    assert run.calibration is not None
    texts = [json.loads(line)["text"] for line in run.calibration.read_text().splitlines()]
    seen = _observe(AutoModelForCausalLM.from_pretrained(base_folder), [[256, *tokenizer(text)["input_ids"], 257] for text in texts])
    by_policy = {name: layer for name, layer in manifest.layers.items() if ".layers.1." in name}
    assert len({layer.protected / layer.shape[1] for layer in by_policy.values()}) > 1
    for name, layer in by_policy.items():
        energy = np.linalg.svd(seen[name][0], compute_uv=False) ** 2
        held = np.cumsum(energy) / energy.sum()
        # Enough, and with one direction less not enough; the slack is for the engine's float32 moments.
        assert held[layer.protected - 1] >= 0.9 - 1e-5
        assert held[layer.protected - 2] < 0.9 + 1e-5

    name = "model.layers.0.self_attn.q_proj"
    shares = {name: layer.trainable / layer.shape[1] for name, layer in manifest.layers.items() if ".layers.0." in name}
    assert shares == dict.fromkeys(shares, 0.75) | {name: 0.25}
    # The override is of the weights that were trained, not of the report alone: a quarter of 32 directions has moved.
    before, after = (load_file(folder / "model.safetensors")[f"{name}.weight"].double() for folder in (run.base, run.out_dir / "model"))
    values = torch.linalg.svdvals(after - before)
    assert float(values[7]) > 1e-3 * float(values[0])
    assert float(values[8]) < 1e-5 * float(values[0])


def test_an_override_that_matches_nothing_is_an_error_and_leaves_no_checkpoint(make_run: MakeRun) -> None:
    run = make_run(protect="weights", rank_overrides={"q_proj": 0.5, "qproj": 0.5})
    with pytest.raises(ConfigError, match=r"rank_overrides: 'qproj' matches no target \(targets look like model\.layers\.0\."):
        train_candidate(run)
    assert not (run.out_dir / "manifest.json").exists()
    assert not (run.out_dir / "model").exists()
