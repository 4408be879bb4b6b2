"""A tiny random Llama with a tokenizer and a chat template, a drop, and runs over them: everything a training test needs, in seconds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from data_contracts.manifests import DropManifest, file_ref, write_manifest
from osft_engine.config import TrainConfig
from osft_engine.run import TrainRun

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
EXPERTS, CHOSEN = 4, 2
# Four ways to keep experts: Mixtral and Qwen3-MoE store each on its own and hold them fused, Granite-MoE stores them fused, gpt-oss stores
# them transposed, with biases and with gate and up interleaved.
MIXTURES: dict[str, dict[str, Any]] = {
    "mixtral": {},
    "qwen3_moe": {"head_dim": 8},
    "gpt_oss": {"head_dim": 8, "sliding_window": 16},
    "granitemoe": {"tie_word_embeddings": True},
}
OF_EXPERTS = {"num_local_experts": EXPERTS, "num_experts": EXPERTS, "num_experts_per_tok": CHOSEN, "moe_intermediate_size": 24}
TINY = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """Bytes and three special tokens: any text, no training, a vocabulary of 259."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: index for index, symbol in enumerate(alphabet)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|im_start|>", "<|im_end|>", "<|pad|>"])
    made = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|pad|>")
    made.chat_template = CHAT_TEMPLATE
    return made


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A saved model folder. The weights are random but not tiny, so that its outputs differ from token to token."""
    torch.manual_seed(7)
    settings = LlamaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=256, tie_word_embeddings=True, eos_token_id=257, pad_token_id=258, **TINY
    )
    model = LlamaForCausalLM(settings)
    for _, parameter in model.named_parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.15)
    folder = tmp_path_factory.mktemp("base")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _rows(count: int) -> list[dict[str, Any]]:
    return [
        {"messages": [{"role": "user", "content": f"{n} plus {n % 7}?"}, {"role": "assistant", "content": f"{n + n % 7}" + "!" * (n % 5)}]}
        for n in range(count)
    ]


@pytest.fixture
def make_drop(tmp_path: Path) -> Callable[..., Path]:
    """make_drop(rows) -> folder of a validated drop."""

    def make(rows: list[dict[str, Any]] | int = 24, name: str = "drop") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        content = _rows(rows) if isinstance(rows, int) else rows
        clean = folder / "clean.jsonl"
        clean.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
        manifest = DropManifest(
            files={"clean": file_ref(folder, clean)},
            skill="sums",
            source="sums.jsonl",
            source_sha256="0" * 64,
            contract="chat",
            contract_version="1",
            rows_read=len(content),
            rows_clean=len(content),
            rows_heldout=0,
            rows_sealed=0,
            rows_quarantined=0,
        )
        write_manifest(folder, manifest)
        return folder

    return make


@pytest.fixture
def make_run(tmp_path: Path, base_folder: Path, make_drop: Callable[..., Path]) -> Callable[..., TrainRun]:
    """make_run(out="name", drop=..., base=..., parent=..., **config) -> a run of a few fast steps."""

    def make(out: str = "out", drop: Path | None = None, base: Path | None = None, parent: Path | None = None, **config: Any) -> TrainRun:
        existing = tmp_path / "drop"
        folder = drop or (existing if existing.is_dir() else make_drop())
        settings: dict[str, Any] = {"max_tokens_per_batch": 256, "max_seq_len": 128, "moment_tokens": 256, "device": "cpu"} | config
        general = tmp_path / "general.jsonl"
        general.write_text("".join(json.dumps({"text": f"The {n} cats of row {n * n} sleep on {n % 3} mats."}) + "\n" for n in range(20)))
        return TrainRun(
            base=base or base_folder,
            parent=parent,
            drop=folder,
            calibration=general,
            skill="sums",
            out_dir=tmp_path / out,
            config=TrainConfig(**settings),
        )

    return make


@pytest.fixture(params=MIXTURES)
def mixture(request: pytest.FixtureRequest) -> str:
    """Each kind of mixture in turn."""
    name: str = request.param
    return name


@pytest.fixture
def make_mixture() -> Callable[[str], Any]:
    """make_mixture(kind) -> the same random model in every call."""

    def make(kind: str) -> Any:
        torch.manual_seed(5)
        settings = {"vocab_size": 259, "max_position_embeddings": 256, "bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 258}
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **TINY | OF_EXPERTS | settings | MIXTURES[kind]))
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 or name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.15)
        return model

    return make


@pytest.fixture
def mixture_base(tmp_path: Path, tokenizer: PreTrainedTokenizerFast, make_mixture: Callable[[str], Any]) -> Callable[[str], Path]:
    """mixture_base(kind) -> a saved model folder of it."""

    def make(kind: str) -> Path:
        folder = tmp_path / f"{kind}-base"
        make_mixture(kind).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return make
