"""Tiny random models of many architectures, as transformers builds them, with one byte tokenizer and one chat template."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ENDS = {"vocab_size": 259, "bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 258}
COMMON: dict[str, Any] = ENDS | {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
HEADS = COMMON | {"head_dim": 8}
GPT = ENDS | {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
SMALL = ENDS | {"hidden_size": 32, "num_hidden_layers": 2}
MAMBA1 = SMALL | {"state_size": 8, "time_step_rank": 4}
MAMBA2 = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 8}
DELTA = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
FALCON = SMALL | {"num_attention_heads": 4, "new_decoder_architecture": False, "bias": True}
LINEAR_THEN_FULL = {"layer_types": ["linear_attention", "full_attention"]}
EXPERTS = COMMON | {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}

CORE = ("llama", "gpt2", "gemma3_text", "bloom", "mamba", "granitemoehybrid", "rwkv", "mixtral")
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": COMMON,
    "gpt2": GPT,
    "gemma3_text": HEADS | {"query_pre_attn_scalar": 8, "sliding_window": 16},
    "bloom": ENDS | {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "mamba": MAMBA1,
    "granitemoehybrid": COMMON
    | MAMBA2
    | {"layer_types": ["mamba", "attention"], "num_local_experts": 0, "num_experts_per_tok": 0, "shared_intermediate_size": 48},
    # It rescales its own weights in eval mode from this layer on; the models of the hub from the sixth.
    "rwkv": SMALL | {"attention_hidden_size": 32, "intermediate_size": 64, "context_length": 256, "rescale_every": 1},
    "mistral": COMMON | {"sliding_window": 16},
    "ministral": HEADS | {"sliding_window": 16},
    "qwen2": COMMON,
    "qwen3": HEADS,
    "gemma": HEADS,
    "gemma2": HEADS | {"query_pre_attn_scalar": 8, "sliding_window": 16},
    "phi": COMMON | {"resid_pdrop": 0.0},
    "phi3": COMMON,
    "gpt_neox": COMMON,
    "gpt_neo": SMALL
    | {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "window_size": 16, "max_position_embeddings": 256},
    "gptj": GPT | {"rotary_dim": 4},
    "codegen": GPT | {"rotary_dim": 4},
    "gpt_bigcode": GPT,
    "granite": COMMON | {"logits_scaling": 4.0},
    "olmo": COMMON,
    "olmo2": COMMON,
    "olmo3": COMMON | {"sliding_window": 16},
    "falcon": FALCON | {"alibi": False},
    "falcon-alibi": FALCON | {"alibi": True, "multi_query": False, "parallel_attn": False},
    "mpt": ENDS | {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 256, "expansion_ratio": 2},
    "falcon_mamba": MAMBA1,
    "mamba2": SMALL | {"state_size": 8, "head_dim": 16, "num_heads": 4, "n_groups": 1, "chunk_size": 8},
    "bamba": COMMON | MAMBA2 | {"attn_layer_indices": [1]},
    "falcon_h1": HEADS | MAMBA2 | {"mamba_d_ssm": 64},
    "recurrent_gemma": COMMON | {"lru_width": 32, "attention_window_size": 16, "block_types": ["recurrent", "attention"]},
    "qwen3_next": HEADS | DELTA | LINEAR_THEN_FULL | {"num_experts": 0, "mlp_only_layers": [0, 1]},
    "qwen3_5_text": HEADS | DELTA | LINEAR_THEN_FULL,
    "olmo_hybrid": COMMON | DELTA | LINEAR_THEN_FULL,
    "lfm2": COMMON | {"layer_types": ["conv", "full_attention"]},
    "lfm3": COMMON | {"layer_types": ["conv", "full_attention"]},
    "cohere": COMMON,
    "cohere2": COMMON | {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]},
    "smollm3": COMMON,
    "starcoder2": COMMON | {"sliding_window": None},
    "opt": SMALL | {"ffn_dim": 48, "num_attention_heads": 4, "max_position_embeddings": 256, "word_embed_proj_dim": 32, "dropout": 0.0},
    "stablelm": COMMON,
    "glm4": HEADS,
    "nemotron": COMMON,
    "exaone4": COMMON,
    "ernie4_5": HEADS,  # its own 128 per head would make inputs wider than the calibration text can fill
    "seed_oss": HEADS | {"attention_dropout": 0.0, "residual_dropout": 0.0},  # 0.1 unless told: no two runs would be equal
    "helium": HEADS,
    "mixtral": EXPERTS,
    "qwen2_moe": EXPERTS | {"shared_expert_intermediate_size": 24},
    "qwen3_moe": EXPERTS | {"head_dim": 8},
    "gpt_oss": EXPERTS | {"head_dim": 8, "sliding_window": 16},
    "granitemoe": EXPERTS,
    "olmoe": EXPERTS,
    "phimoe": EXPERTS,
    "minimax_m2": EXPERTS | {"head_dim": 8},
    "hunyuan_v1_moe": EXPERTS | {"head_dim": 8, "moe_topk": 2},
    "glm4_moe": EXPERTS | {"head_dim": 8, "n_routed_experts": 4, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1},
    "jamba": EXPERTS
    | {"num_experts": 2, "num_experts_per_tok": 1, "expert_layer_period": 2, "expert_layer_offset": 1}
    | {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 8, "mamba_dt_rank": 4, "use_mamba_kernels": False},
}

# Trained like any other; transformers cannot let them write several texts side by side.
SILENT: dict[str, dict[str, Any]] = {"xlstm": SMALL | {"embedding_dim": 32, "num_heads": 4, "num_blocks": 2, "chunk_size": 8}}


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE(vocab={symbol: n for n, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|im_start|>", "<|im_end|>", "<|pad|>"])
    made = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|pad|>")
    made.chat_template = CHAT_TEMPLATE
    return made


@pytest.fixture
def make_base(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> Callable[[str], Path]:
    """make_base(architecture) -> a saved model folder whose outputs differ from token to token."""

    def make(architecture: str) -> Path:
        torch.manual_seed(3)
        model = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(architecture.partition("-")[0], **(ARCHITECTURES | SILENT)[architecture])
        )
        for parameter in model.parameters():
            if parameter.dim() == 2:
                torch.nn.init.normal_(parameter, std=0.15)
        folder = tmp_path / "base"
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return make


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The core by default, the widest part with `-m slow`."""
    if "architecture" in metafunc.fixturenames:
        marks = {name: () if name in CORE else (pytest.mark.slow,) for name in ARCHITECTURES}
        metafunc.parametrize("architecture", [pytest.param(name, marks=mark, id=name) for name, mark in marks.items()])
