"""What one trial finds of a model: whether examples may share a row or a pass, and which layers it reads without calling them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, BertConfig, BertLMHeadModel, BloomConfig, BloomForCausalLM

from data_contracts.errors import ConfigError
from osft_engine.config import TrainConfig
from osft_engine.loop.probe import choose_layout, mixes_examples, reachable_targets, read_without_call, wanted_layout


@pytest.fixture
def llama(base_folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(base_folder)


@pytest.fixture
def bloom() -> Any:
    """Its ALiBi counts distances from the beginning of the row, whatever position ids say."""
    torch.manual_seed(0)
    return BloomForCausalLM(BloomConfig(vocab_size=64, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.2))


def test_the_cheapest_layout_depends_on_the_device_unless_it_is_named() -> None:
    assert wanted_layout(TrainConfig(), torch.device("cpu")) == "padded"
    assert wanted_layout(TrainConfig(), torch.device("cuda")) == "packed"
    assert wanted_layout(TrainConfig(batch_layout="single"), torch.device("cuda")) == "single"


def test_a_model_that_keeps_examples_apart_takes_the_wanted_layout(llama: Any) -> None:
    assert mixes_examples(llama, "packed") is mixes_examples(llama, "padded") is None
    chosen = choose_layout(llama, TrainConfig(), torch.device("cuda"))
    assert (chosen.kind, chosen.why) == ("packed", "no example reads another (probed)")
    assert choose_layout(llama, TrainConfig()).kind == "padded"


def test_a_model_that_mixes_packed_examples_gets_the_next_layout_and_a_named_one_is_refused(bloom: Any) -> None:
    assert mixes_examples(bloom, "packed") is not None
    chosen = choose_layout(bloom, TrainConfig(), torch.device("cuda"))
    assert chosen.kind == "padded"
    assert chosen.why.startswith("packed: ")
    with pytest.raises(ConfigError, match="is packed, and BloomForCausalLM"):
        choose_layout(bloom, TrainConfig(batch_layout="packed"))


def test_probing_leaves_the_model_in_its_mode(llama: Any) -> None:
    llama.train()
    mixes_examples(llama, "packed")
    assert llama.training
    assert all(parameter.grad is None for parameter in llama.parameters())


def test_a_leak_too_small_to_be_seen_in_the_logits_is_seen_in_the_gradient(llama: Any) -> None:
    llama.model.layers[0].register_forward_pre_hook(lambda _, inputs: (inputs[0] + 1e-5 * inputs[0].cumsum(1), *inputs[1:]))
    assert mixes_examples(llama, "packed") == "lets one example's tokens reach the other's loss"
    assert mixes_examples(llama, "padded") is None


def test_a_model_that_counts_from_the_beginning_of_a_row_is_seen_though_no_gradient_crosses(llama: Any) -> None:
    llama.model.embed_tokens.register_forward_hook(lambda _, __, output: output + 0.1 * torch.arange(output.shape[1])[None, :, None])
    assert str(mixes_examples(llama, "packed")).startswith("gives an example other logits than alone")
    assert mixes_examples(llama, "padded") is None


def test_a_model_is_probed_without_its_dropout(llama: Any) -> None:
    for layer in llama.model.layers:
        layer.self_attn.attention_dropout = 0.5
    llama.train()
    assert mixes_examples(llama, "packed") is mixes_examples(llama, "padded") is None


class _ReadsWeights(nn.Module):
    """In the place of an MLP: uses the weight of its layer without calling it."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.hidden, self.called = nn.Linear(size, size), nn.Linear(size, size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.called(x @ self.hidden.weight.T)


def test_layers_that_are_read_without_a_call_are_passed_over_or_refused(llama: Any, capsys: pytest.CaptureFixture[str]) -> None:
    llama.model.layers[0].mlp = _ReadsWeights(32)
    found = reachable_targets(llama)
    assert "model.layers.0.mlp.called" in found
    assert "model.layers.0.mlp.hidden" not in found
    assert "1 such layers stay as they are" in capsys.readouterr().err
    assert read_without_call(llama, found) == []
    with pytest.raises(ConfigError, match=r"reads the weight of model\.layers\.0\.mlp\.hidden without calling the layer.*leave out hidden"):
        reachable_targets(llama, ["hidden"])


@pytest.mark.parametrize("decoder", [True, False])
def test_an_encoder_is_refused_and_the_same_model_as_a_decoder_is_not(decoder: bool) -> None:
    """Its loss fell, for it read the tokens that it was to predict."""
    settings = BertConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, is_decoder=decoder
    )  # fmt: skip
    model = BertLMHeadModel(settings)
    if decoder:
        choose_layout(model, TrainConfig())
        return
    with pytest.raises(ConfigError, match=r"BertLMHeadModel.*reads the tokens that it is to predict"):
        choose_layout(model, TrainConfig())


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("phi3", {"rope_type": "longrope", "long_factor": [4.0] * 4, "short_factor": [1.0] * 4}),
        ("llama", {"rope_type": "dynamic", "factor": 4.0}),
    ],
)
def test_a_model_whose_positions_follow_the_longest_example_reads_each_alone_where_one_may_be_long(
    kind: str, settings: dict[str, Any]
) -> None:
    """Against plain transformers: a short example beside one of 60 tokens has other logits than alone."""
    common = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    windows = {"phi3": {"max_position_embeddings": 128, "original_max_position_embeddings": 32}, "llama": {"max_position_embeddings": 32}}
    window = windows[kind] | {"pad_token_id": 0, "initializer_range": 0.3}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **common, **window, rope_parameters=settings | {"rope_theta": 1e4}))
    ids, mask = torch.randint(3, 64, (2, 60)), torch.ones(2, 60, dtype=torch.long)
    mask[1, 20:] = 0
    with torch.no_grad():
        beside, alone = model(ids, attention_mask=mask).logits[1, :20], model(ids[1:, :20]).logits[0]
    assert not torch.allclose(beside, alone, atol=1e-3)
    assert choose_layout(model, TrainConfig(max_tokens_per_batch=32)).kind == "padded", "no example can be longer"
    chosen = choose_layout(model, TrainConfig())
    assert chosen.kind == "single"
    assert "more than 32 tokens" in chosen.why
