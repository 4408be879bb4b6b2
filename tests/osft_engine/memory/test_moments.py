"""Second moments of layer inputs: padding does not count, and layers that read the same share one."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from data_contracts.rendering import TextRenderer
from osft_engine.data.batches import micro_batches
from osft_engine.memory.calibration import generate_examples
from osft_engine.memory.moments import measure_moments
from osft_engine.method.attach import find_targets


def test_moments_ignore_padding_and_are_shared_by_layers_that_read_the_same(base_folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    model = AutoModelForCausalLM.from_pretrained(base_folder).eval()
    examples = generate_examples(model, TextRenderer(tokenizer), tokens=120, length=16, seed=1)
    targets = find_targets(model)
    padded, packed = (measure_moments(model, targets, micro_batches(examples, max_tokens=64, layout=way)) for way in ("padded", "packed"))
    assert padded.tokens == packed.tokens == sum(len(each.ids) for each in examples)
    assert padded.leaders == packed.leaders
    assert padded.leaders["model.layers.1.self_attn.v_proj"] == "model.layers.1.self_attn.q_proj"
    assert padded.leaders["model.layers.1.mlp.up_proj"] == "model.layers.1.mlp.gate_proj"
    assert len(padded.moments) == 8  # four different inputs in each of two blocks
    for name, moment in padded.moments.items():
        torch.testing.assert_close(moment, packed.moments[name], rtol=1e-3, atol=1e-4)
