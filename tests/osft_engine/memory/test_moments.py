"""Second moments of layer inputs: padding does not count, and layers that read the same share one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from data_contracts.rendering import TextRenderer
from osft_engine.data.batches import micro_batches
from osft_engine.memory import moments
from osft_engine.memory.calibration import generate_examples
from osft_engine.memory.moments import measure_moments, moments_in_parts
from osft_engine.memory.subspace_memory import SubspaceMemory, save_memory
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


@pytest.mark.parametrize(("room", "parts"), [(float("inf"), 1), (1.0, 2)])
def test_measured_in_parts_the_memory_is_the_same_to_the_byte(
    base_folder: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: float, parts: int
) -> None:
    """Two rounds, the second with what the first one knew: layers that share an input stay together, whatever the room."""
    monkeypatch.setattr(moments, "_room", lambda _: room)
    model = AutoModelForCausalLM.from_pretrained(base_folder).eval()
    every = list(find_targets(model).items())
    targets = dict(every[1:] + every[:1])  # a layer that is new comes last, and belongs to its block all the same
    at_once = by_parts = SubspaceMemory()
    for number, name in enumerate(("general", "sums")):
        examples = generate_examples(model, TextRenderer(tokenizer), tokens=120, length=16, seed=number)
        batches = micro_batches(examples, max_tokens=64, layout="packed")
        at_once = at_once.add(name, measure_moments(model, targets, batches), 24)
        by_parts = by_parts.opened((name,))
        found = list(moments_in_parts(model, targets, batches))
        assert len(found) == parts
        for part in found:
            by_parts = by_parts.measured_in(number, part, 24)
    for name, memory in (("at-once", at_once), ("by-parts", by_parts)):
        save_memory(memory, tmp_path / name)
    assert (tmp_path / "at-once").read_bytes() == (tmp_path / "by-parts").read_bytes()
