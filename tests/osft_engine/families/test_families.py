"""The families of model that the engine takes, as transformers builds them: packing, attaching, training, saving and reloading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from osft_engine.compute.forward import summed_loss
from osft_engine.data.batches import MicroBatch, micro_batches
from osft_engine.data.examples import Example
from osft_engine.memory.moments import measure_moments
from osft_engine.method.attach import OsftAttachment, allowed_updates, find_targets
from osft_engine.subspace.protection import protect_activations, protect_weights

COMMON: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT2 = {
    "vocab_size": 64,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 128,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": COMMON,
    "mistral": COMMON | {"sliding_window": None},
    "qwen2": COMMON,
    "qwen3": COMMON | {"head_dim": 8},
    "gemma": COMMON | {"head_dim": 8},
    "gemma2": COMMON | {"head_dim": 8, "query_pre_attn_scalar": 8},
    "phi": COMMON | {"resid_pdrop": 0.0},
    "phi3": COMMON,
    "gpt2": GPT2 | {"bos_token_id": 1, "eos_token_id": 2},
    "gpt_neox": COMMON,
    "granite": COMMON | {"logits_scaling": 4.0},
}


def _model(family: str) -> Any:
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **FAMILIES[family]))
    for parameter in model.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def _examples() -> list[Example]:
    generator = torch.Generator().manual_seed(1)
    lengths = (9, 5, 12, 7)
    rows = [torch.randint(3, 64, (length,), generator=generator).tolist() for length in lengths]
    return [Example(tuple(ids), (False, *[index % 3 > 0 for index in range(1, len(ids))]), f"row:{n}") for n, ids in enumerate(rows)]


def _loss(model: Any, batches: list[MicroBatch]) -> torch.Tensor:
    return torch.stack([summed_loss(model, batch) for batch in batches]).sum()


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_padded_and_single_examples_have_one_loss(family: str) -> None:
    model, examples = _model(family).eval(), _examples()
    with torch.no_grad():
        single = _loss(model, [batch for each in examples for batch in micro_batches([each], max_tokens=64, layout="packed")])
        packed = micro_batches(examples, max_tokens=64, layout="packed")
        padded = micro_batches(examples, max_tokens=64, layout="padded")
        assert len(packed) == 1
        assert len(padded) == 1
        torch.testing.assert_close(_loss(model, packed), single, rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(_loss(model, padded), single, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("protect", ["weights", "activations"])
@pytest.mark.parametrize("family", FAMILIES)
def test_attach_train_save_reload(family: str, protect: str, tmp_path: Path) -> None:
    model = _model(family)
    batches = micro_batches(_examples(), max_tokens=64, layout="packed")
    targets = find_targets(model)
    assert not any(module is model.get_output_embeddings() for module in targets.values())
    if protect == "weights":
        allowed = allowed_updates(targets, lambda _, W: protect_weights(W, 0.5))
    else:
        measured = measure_moments(model, targets, batches)
        allowed = allowed_updates(
            targets, lambda name, W: protect_activations((W.shape[0], W.shape[1]), measured.moments[measured.leaders[name]], 0.5)
        )
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    attachment = OsftAttachment(model, targets, allowed)
    optimizer = torch.optim.AdamW(attachment.trainable().values(), lr=1e-2)
    losses = []
    for _ in range(8):
        loss = _loss(model, batches)
        loss.backward()
        attachment.before_step()
        optimizer.step()
        optimizer.zero_grad()
        attachment.after_step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert max(attachment.leaks().values()) < 1e-5
    model.eval()
    trained = _loss(model, batches)
    merged = attachment.merge()
    torch.testing.assert_close(_loss(merged, batches), trained)
    merged.save_pretrained(tmp_path)
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(_loss(reloaded, batches), trained)
    changed = {name.removesuffix(".weight") for name, parameter in reloaded.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == set(targets)
