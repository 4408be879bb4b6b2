"""A base in 4 bits: real bitsandbytes layers, and a candidate that is the unquantised base plus the stored update, to the byte."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from data_contracts.errors import CheckpointError
from osft_engine.checkpoint.update import load_update
from osft_engine.config import TrainConfig
from osft_engine.rescale import scale_candidate
from osft_engine.run import TrainRun
from osft_engine.train import train_candidate

# Looked for, not imported: its import takes seconds, which every worker that only collects this file would pay.
needs_bitsandbytes = pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")


@pytest.fixture(scope="module")
def wide_base(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    """Rows of 64 and 128 numbers, as real models have whole blocks of 64: on CPUs with AVX-512 bitsandbytes misreads rows that are none."""
    torch.manual_seed(7)
    heads = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, eos_token_id=257, **heads))
    for parameter in model.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.1)
    folder = tmp_path_factory.mktemp("wide")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@needs_bitsandbytes
def test_rows_that_are_no_whole_blocks_are_refused_on_a_cpu(make_run: Callable[..., TrainRun]) -> None:
    """The tiny base has rows of 32 and 48 numbers."""
    with pytest.raises(CheckpointError, match=r"layers\.0\..*has rows of (32|48) numbers, which bitsandbytes reads wrongly on a CPU"):
        train_candidate(make_run(quantize="nf4", device="cpu"))


@needs_bitsandbytes
def test_the_candidate_is_the_unquantised_base_plus_the_update(make_run: Callable[..., TrainRun], wide_base: Path, tmp_path: Path) -> None:
    run = make_run(base=wide_base, quantize="nf4", num_epochs=4, learning_rate=5e-3)
    manifest = train_candidate(run)
    assert manifest.summary is not None
    assert manifest.summary.final_loss < manifest.summary.first_loss
    assert max(layer.leak for layer in manifest.layers.values()) <= 1e-5
    before, after = (load_file(folder / "model.safetensors") for folder in (run.base, run.out_dir / "model"))
    update = load_update(run.out_dir / "update.safetensors")
    assert len(update) == 14
    for name, value in after.items():
        layer = update.get(name.removesuffix(".weight"))
        assert torch.equal(value, before[name] + layer.dense() if layer is not None else before[name]), name
    config = (run.out_dir / "model" / "config.json").read_text()
    assert "quantization" not in config
    scaled = scale_candidate(run.out_dir, run.base, tmp_path / "same", 1.0)
    assert scaled.model_sha256 == manifest.model_sha256


@needs_bitsandbytes
def test_the_frozen_layers_are_held_in_four_bits(wide_base: Path) -> None:
    from osft_engine.checkpoint.read import load_model
    from osft_engine.method.attach import find_targets, weight_of

    dense, small = (load_model(wide_base, TrainConfig(device="cpu", quantize=way)) for way in ("none", "nf4"))
    for name, module in find_targets(small).items():
        assert module.weight.dtype == torch.uint8
        exact = weight_of(dense.get_submodule(name))
        assert 0.0 < float((weight_of(module) - exact).norm() / exact.norm()) < 0.2


@pytest.mark.parametrize("settings", [{"method": "full"}, {"protect": "weights"}, {"train_other": ["norm"]}])
def test_what_needs_dense_weights_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="quantize does not apply here: a 4-bit base stays frozen"):
        TrainConfig(quantize="nf4", **settings)
