"""What doctor and a round say of a model that they loaded, on nano and on tiny models made by transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from data_contracts.errors import CheckpointError, ConfigError
from flows.base_models.resolve import NANO
from flows.text.facts import FACTS_NAME, write_facts
from flows.text.model_facts import model_facts, model_facts_within
from osft_engine.config import TrainConfig

WIDTHS = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}


def save(folder: Path, family: str, **settings: Any) -> Path:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, vocab_size=40, **settings)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(folder)
    return folder


def facts_of(folder: Path, **train: Any) -> dict[str, str]:
    return {fact.name: fact.value for fact in model_facts(folder, TrainConfig(**train))}


def test_nano_is_described(tmp_path: Path) -> None:
    found = model_facts(NANO, TrainConfig())
    facts = {fact.name: fact.value for fact in found}
    stored = load_file(NANO / "model.safetensors")  # nano's head is tied, so each parameter is stored once
    inside = [value for name, value in stored.items() if ".layers." in name and value.dim() == 2]
    count = sum(value.numel() for value in stored.values())
    assert facts == {
        "weights": "F32; every tensor is used, none is missing, all are finite",
        "parameters": f"{count:,}, trained in float32",
        "output head": "tied to the embedding",
        "experts": "none",
        "trained layers": f"{len(inside)} linear layers, {sum(value.numel() for value in inside) / count:.0%} of the parameters",
        "examples in a batch": "padded: on a CPU padding is cheaper; no example reads another (probed)",
    }
    write_facts(tmp_path / FACTS_NAME, found)
    assert json.loads((tmp_path / FACTS_NAME).read_text()) == facts


def test_experts_and_an_untied_head_are_described(tmp_path: Path) -> None:
    folder = save(tmp_path, "mixtral", tie_word_embeddings=False, num_local_experts=3, num_experts_per_tok=2, **WIDTHS)
    facts = facts_of(folder, target_patterns=["self_attn"])
    assert facts["experts"] == "3 in each of 2 layers, 2 routed per token"
    assert facts["output head"] == "a matrix of its own"
    assert facts["trained layers"].startswith("8 linear layers, ")
    assert facts_of(folder, method="full")["trained layers"] == "every parameter (train.method is full)"
    assert facts_of(folder)["trained layers"].startswith(f"{8 + 2 * 3 * 2} linear layers, ")  # two matrices of each expert
    other = save(tmp_path / "other", "jetmoe", num_local_experts=3, kv_channels=8, **WIDTHS)
    with pytest.raises(ConfigError, match=r"keeps its experts in fused 3-D parameters.*target_patterns"):
        facts_of(other)


def test_the_layout_is_the_one_of_the_device_that_trains(tmp_path: Path) -> None:
    """ALiBi counts distances from the row's beginning: examples that are packed end to end would read one another."""
    folder = save(tmp_path, "bloom", hidden_size=16, n_layer=2, n_head=2)
    assert facts_of(folder)["examples in a batch"].startswith("padded: on a CPU padding is cheaper")
    assert facts_of(folder, device="cuda")["examples in a batch"].startswith("padded: packed: ")
    assert facts_of(folder, device="cuda")["parameters"].endswith("trained in bfloat16")
    with pytest.raises(ConfigError, match=r"train.batch_layout: is packed, and BloomForCausalLM"):
        facts_of(folder, batch_layout="packed")


def test_a_device_that_does_not_exist_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"train.device: 'abacus' is no torch device \(auto, cpu"):
        facts_of(NANO, device="abacus")


def test_another_process_finds_the_same_and_refuses_the_same(tmp_path: Path) -> None:
    assert model_facts_within(NANO, TrainConfig(), 300.0) == model_facts(NANO, TrainConfig())
    folder = save(tmp_path, "llama", **WIDTHS)
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"model.norm.weight": tensors["model.norm.weight"] * torch.nan}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"model.norm.weight holds numbers that are not finite \(give the weights") as refused:
        model_facts_within(folder, TrainConfig(), 300.0)
    assert refused.value.where == str(folder)


def test_a_model_that_takes_too_long_is_given_up() -> None:
    assert model_facts_within(NANO, TrainConfig(), 0.01) is None
