"""A random Llama of a few thousand parameters with a byte tokenizer and a chat template, and suites for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<|end|>", "<|bos|>", "<|user|>", "<|assistant|>", "<|system|>", "<|tool|>", "<|eos|>"]


RICH_TEMPLATE = (
    "{% if tools %}<|system|>{{ tools | tojson }}<|end|>{% endif %}"
    "{% for m in messages %}<|{{ m['role'] }}|>"
    "{% if m['reasoning_content'] %}<think>{{ m['reasoning_content'] }}</think>{% endif %}{{ m['content'] or '' }}"
    "{% for c in m['tool_calls'] or [] %}[{{ c['function']['name'] }} {{ c['function']['arguments'] | tojson }}]{% endfor %}"
    "<|end|>\n{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""Prints tools, calls and reasoning; a line break follows the end of a turn, which is no end of sequence (see `rich_model`)."""


def _write_tiny(folder: Path, template: str, eos: str) -> Path:
    """A random two-layer Llama that from_pretrained loads."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=eos,
        pad_token=eos,
        bos_token="<|bos|>",
        additional_special_tokens=[token for token in SPECIAL if token not in (eos, "<|bos|>")],
    )
    fast.chat_template = template
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    ends = {"bos_token_id": vocabulary["<|bos|>"], "eos_token_id": vocabulary[eos]}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(vocabulary), max_position_embeddings=256, initializer_range=0.3, **ends, **sizes))
    with torch.no_grad():  # it says letters only, so that what it says is text that can be asked back
        silent = [index for token, index in vocabulary.items() if not (token.isascii() and token.isalpha())]
        model.lm_head.weight[silent] = 0.0
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose end of turn is its end of sequence."""
    return _write_tiny(tmp_path_factory.mktemp("tiny") / "model", CHAT_TEMPLATE, "<|end|>")


@pytest.fixture(scope="session")
def rich_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose template prints tools, calls and reasoning, and whose turns do not end with its end of sequence."""
    return _write_tiny(tmp_path_factory.mktemp("rich") / "model", RICH_TEMPLATE, "<|eos|>")


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[..., Path]:
    """Write rows to a JSONL file and return its path."""

    def write(name: str, rows: list[dict[str, Any]]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


@pytest.fixture
def choice_rows() -> list[dict[str, Any]]:
    words = ["red", "green", "blue-green", "black and white"]
    return [{"prompt": f"Which colour is number {n}?", "choices": words, "gold": n % 4} for n in range(24)]


@pytest.fixture
def answer_rows() -> list[dict[str, Any]]:
    return [{"prompt": f"{n} plus {n} is", "answer": str(2 * n)} for n in range(8)]


@pytest.fixture
def text_rows() -> list[dict[str, Any]]:
    return [{"text": f"Passage {n}. " + "The river was high that year. " * (n + 1)} for n in range(12)]


@pytest.fixture
def chat_rows() -> list[dict[str, Any]]:
    return [
        {"messages": [{"role": "user", "content": f"Is {n} even?"}, {"role": "assistant", "content": "yes" if n % 2 == 0 else "no"}]}
        for n in range(20)
    ]
