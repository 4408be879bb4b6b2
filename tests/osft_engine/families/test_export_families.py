"""The exact LoRA adapter of a round gives the candidate's own logits where layers are stored otherwise than in Llama: GPT-2 keeps its
weights transposed (Conv1D, PEFT's fan_in_fan_out), and both models here read their output head from the embedding (tied)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from osft_engine.checkpoint.adapter import export_adapter
from osft_engine.run import TrainRun
from osft_engine.train import train_candidate

MakeRun = Callable[..., TrainRun]

QWEN2 = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128},
    # Unlike conftest's Llama, its q, k and v have biases, which an adapter must leave alone.
    "qwen2": QWEN2 | {"max_position_embeddings": 128},
}


def _base(family: str, tokenizer: PreTrainedTokenizerFast, folder: Path) -> Path:
    torch.manual_seed(5)
    ids = {"bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 258}
    settings = AutoConfig.for_model(family, vocab_size=len(tokenizer), tie_word_embeddings=True, **ids, **FAMILIES[family])
    model = AutoModelForCausalLM.from_config(settings)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2 or name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.15)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model.eval()(torch.arange(40).reshape(2, 20)).logits
    return result


@pytest.mark.parametrize("protect", ["activations", "weights"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_exact_adapter_gives_the_candidates_logits(
    make_run: MakeRun, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, family: str, protect: str
) -> None:
    run = make_run(base=_base(family, tokenizer, tmp_path / "base"), protect=protect, learning_rate=1e-2, warmup_steps=0)
    train_candidate(run)
    made = export_adapter(run.out_dir, tmp_path / "adapter", base=str(run.base))
    candidate = AutoModelForCausalLM.from_pretrained(run.out_dir / "model")
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(run.base), tmp_path / "adapter")
    dense, plain = _logits(candidate), _logits(AutoModelForCausalLM.from_pretrained(run.base))
    torch.testing.assert_close(_logits(adapted), dense, rtol=1e-4, atol=1e-4)
    assert float((dense - plain).abs().max()) > 0.01
    assert made.relative_error < 1e-6
    # Merged by PEFT, the adapter becomes the candidate's weights: it says all that the round changed, and nothing else.
    merged = adapted.merge_and_unload().state_dict()
    for name, value in candidate.state_dict().items():
        torch.testing.assert_close(merged[name], value, rtol=1e-5, atol=1e-6)
    # Still tied: one table in memory, one on disk, and it is the base's.
    assert candidate.get_output_embeddings().weight is candidate.get_input_embeddings().weight
    before, after = (load_file(folder / "model.safetensors") for folder in (run.base, run.out_dir / "model"))
    assert before.keys() == after.keys()
    assert not any("lm_head" in name for name in after)
    assert all(torch.equal(before[name], after[name]) for name in before if "embed" in name or "wte" in name or "wpe" in name)
