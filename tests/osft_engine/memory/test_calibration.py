"""Round 0 of the subspace memory without any text: the model generates it, the same each time, and is left unchanged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from data_contracts.rendering import TextRenderer
from osft_engine.data.batches import micro_batches
from osft_engine.memory.calibration import calibration_examples, generate_examples
from osft_engine.memory.moments import measure_moments
from osft_engine.memory.subspace_memory import SubspaceMemory, load_memory, save_memory
from osft_engine.method.attach import find_targets
from osft_engine.subspace.algebra import EigenSketch


def test_the_model_writes_conversations_and_documents_of_the_wanted_size(base_folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    model = AutoModelForCausalLM.from_pretrained(base_folder)
    before = torch.get_rng_state()
    made = generate_examples(model, TextRenderer(tokenizer), tokens=200, length=20, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert sum(len(each.ids) for each in made) >= 200
    assert [each.ids for each in generate_examples(model, TextRenderer(tokenizer), tokens=200, length=20, seed=3)] == [
        each.ids for each in made
    ]
    assert any(tokenizer.decode(each.ids).startswith("<|im_start|>user\n") for each in made)
    assert all(each.loss_tokens == len(each.ids) - 1 for each in made)


def test_a_byte_order_mark_before_general_text_is_not_read_as_text(
    base_folder: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model, lines = AutoModelForCausalLM.from_pretrained(base_folder), b'{"text": "the first"}\n{"text": "the second"}\n'
    found = []
    for name, content in (("plain", lines), ("marked", b"\xef\xbb\xbf" + lines)):
        path = tmp_path / f"{name}.jsonl"
        path.write_bytes(content)
        found.append(calibration_examples(path, model, TextRenderer(tokenizer), tokens=9, max_tokens=64, seed=0))
    assert [each.ids for each in found[0]] == [each.ids for each in found[1]]
    assert tokenizer.decode(found[0][0].ids) == "<|im_start|>the first<|im_end|>"


def test_memory_adds_rounds_with_equal_weight_in_a_size_that_does_not_grow(
    base_folder: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = AutoModelForCausalLM.from_pretrained(base_folder).eval()
    targets = find_targets(model)
    few = generate_examples(model, TextRenderer(tokenizer), tokens=40, length=16, seed=1)
    many = generate_examples(model, TextRenderer(tokenizer), tokens=160, length=16, seed=2)
    one, two = (measure_moments(model, targets, micro_batches(each, max_tokens=64, layout="packed")) for each in (few, many))
    memory = SubspaceMemory().add("base", one, 48).add("sums", two, 48)
    name = "model.layers.0.self_attn.k_proj"
    leader = memory.leaders[name]
    torch.testing.assert_close(memory.moment(name), one.moments[leader] + two.moments[leader])
    save_memory(memory, tmp_path / "ledger.safetensors")
    loaded = load_memory(tmp_path / "ledger.safetensors")
    assert loaded.rounds == ("base", "sums")
    torch.testing.assert_close(loaded.moment(name), memory.moment(name))

    short = SubspaceMemory()
    sizes = []
    for index in range(3):
        short = short.add(f"round {index}", two, 8)
        kept = short.sketches[leader]
        assert isinstance(kept, EigenSketch)
        sizes.append(kept.vectors.numel())
    assert sizes == [32 * 8] * 3
    exact = 3 * two.moments[leader]
    assert float(short.moment(name).trace()) == pytest.approx(float(exact.trace()), rel=1e-3)
