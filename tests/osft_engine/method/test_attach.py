"""Which layers are trained: found by themselves or by pattern, and refused by name."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from data_contracts.errors import ConfigError
from osft_engine.method.attach import OsftAttachment, allowed_updates, choose_executions, find_targets, is_linear, weight_of
from osft_engine.subspace.linear import training_bytes
from osft_engine.subspace.protection import protect_weights, protect_weights_block

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


def _llama() -> Any:
    torch.manual_seed(3)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **COMMON))


def test_attention_of_a_mixture_can_be_trained_by_naming_it() -> None:
    settings = AutoConfig.for_model("mixtral", **COMMON, num_local_experts=2, num_experts_per_tok=1)
    assert len(find_targets(AutoModelForCausalLM.from_config(settings), ["self_attn"])) == 8


def test_a_pattern_that_matches_nothing_is_an_error_with_names_that_exist() -> None:
    with pytest.raises(ConfigError, match=r"'qproj' matches no linear layer \(names look like model\.layers\.0\.self_attn\.q_proj"):
        find_targets(_llama(), ["qproj"])


def test_a_model_without_linear_layers_has_nothing_to_train() -> None:
    with pytest.raises(ConfigError, match="has no linear layers inside decoder blocks"):
        find_targets(nn.Sequential(nn.Embedding(4, 4), nn.LayerNorm(4)))


def test_targets_are_the_linear_layers_of_the_blocks_and_never_the_head() -> None:
    names = list(find_targets(_llama()))
    assert len(names) == 2 * 7
    assert all(name.startswith("model.layers.") for name in names)
    assert list(find_targets(_llama(), [r"0.*q_proj", "down_proj"])) == [
        "model.layers.0.self_attn.q_proj",
        "model.layers.0.mlp.down_proj",
        "model.layers.1.mlp.down_proj",
    ]


def test_routers_are_no_targets() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.up = nn.Linear(4, 2), nn.Linear(4, 4)

    model = nn.Module()
    model.layers = nn.ModuleList([nn.Sequential(Block())])
    assert list(find_targets(model)) == ["layers.0.0.up"]


def test_a_merged_attachment_is_the_model_with_the_effective_weights() -> None:
    model = _llama()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    targets = find_targets(model, ["q_proj"])
    attachment = OsftAttachment(model, targets, allowed_updates(targets, lambda _, W: protect_weights(W, 0.5)), ["norm"])
    assert set(attachment.trainable()) == {f"{name}.core" for name in targets} | {
        name for name, _ in model.named_parameters() if "norm" in name
    }
    assert not any(value.requires_grad for name, value in model.named_parameters() if "k_proj" in name)
    with torch.no_grad():
        for layer in attachment.layers.values():
            layer.core.normal_()
    attachment.after_step()
    dense = attachment.dense_state()
    merged = attachment.merge()
    assert merged is model
    changed = {name for name, value in merged.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {f"{name}.weight" for name in targets}
    for name, value in merged.state_dict().items():
        torch.testing.assert_close(dense[name], value, rtol=0, atol=0)
    with pytest.raises(ConfigError, match="'absent' matches no parameter outside the targets"):
        OsftAttachment(_llama(), {}, {}, ["absent"])


def test_a_weight_is_read_as_out_times_in_however_it_is_stored() -> None:
    from transformers.pytorch_utils import Conv1D

    conv = Conv1D(3, 5)
    assert is_linear(conv)
    assert torch.equal(weight_of(conv), conv.weight.T)
    linear = nn.Linear(5, 3)
    assert weight_of(linear).shape == (3, 5)
    assert not is_linear(nn.Embedding(3, 5))


def test_auto_runs_beside_the_weights_where_a_second_copy_of_them_would_fill_the_device() -> None:
    targets = find_targets(_llama())
    allowed = allowed_updates(targets, lambda _, W: protect_weights(W, 0.25, compact=True))
    needed = sum(training_bytes(update, 4, "dense") for update in allowed.values())

    def ways(execution: Literal["auto", "dense", "side"], memory: int | None) -> set[str]:
        found = choose_executions(targets, allowed, execution, 1e6, model_bytes=1000, memory=memory)
        assert found.keys() == targets.keys()
        return set(found.values())

    assert ways("auto", None) == ways("auto", 2 * (needed + 1000)) == {"dense"}
    assert ways("auto", 2 * (needed + 1000) - 2) == {"side"}
    assert ways("dense", 1) == {"dense"}, "what is told is done"
    everything = allowed_updates(targets, lambda _, W: protect_weights_block(W, 0.25))
    assert set(choose_executions(targets, everything, "auto", 1e6, memory=1).values()) == {"dense"}, "it has no factors to run beside"


_ROUTED: dict[str, dict[str, Any]] = {
    "hunyuan_v1_moe": {"num_experts": 4, "moe_topk": 2, "moe_intermediate_size": 24, "head_dim": 8},
    "gemma4_text": {
        "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 24, "enable_moe_block": True, "head_dim": 8, "global_head_dim": 8,
        "hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 64, "num_kv_shared_layers": 0,
    },
    "doge": {"is_moe": True, "num_experts": 16, "num_experts_per_tok": 4},
}  # fmt: skip


@pytest.mark.parametrize(("family", "router"), [("hunyuan_v1_moe", "mlp.gate.wg"), ("gemma4_text", "router.proj"), ("doge", "router_gate")])
def test_a_router_that_holds_its_linear_layer_or_has_another_name_is_no_target(family: str, router: str) -> None:
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **COMMON | _ROUTED[family]))
    assert any(name.endswith(router) and is_linear(module) for name, module in model.named_modules())
    targets = find_targets(model)
    assert targets
    assert not [name for name in targets if router in name]


def test_layers_that_share_their_weight_stay_as_they_are_and_cannot_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    """Each place trained an update of its own, and the last one written was the only one that was saved."""
    settings = AutoConfig.for_model(
        "zamba2", **COMMON | {"num_hidden_layers": 4, "num_key_value_heads": 4}, layers_block_type=["mamba", "hybrid", "mamba", "hybrid"],
        num_mem_blocks=1, mamba_d_state=8, mamba_expand=2, mamba_headdim=16, n_mamba_heads=4, mamba_ngroups=1, use_mem_eff_path=False,
        adapter_rank=8, attention_head_dim=16, use_shared_attention_adapter=True,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(settings)
    targets = find_targets(model)
    held: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        held.setdefault(id(parameter), []).append(name)
    shared = {name.removesuffix(".weight") for names in held.values() if len(names) > 1 for name in names}
    assert "model.layers.1.shared_transformer.self_attn.q_proj" in shared
    assert targets
    assert not shared & set(targets)
    assert "layers share their weight with others" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="whose weight other layers share"):
        find_targets(model, ["q_proj"])
