"""Tokenizers that merge, and chat templates of the kinds that people publish, as small Jinja strings."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SPECIALS = [
    "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<start_of_turn>",
    "<end_of_turn>", "[INST]", "[/INST]", "<|eom_id|>", "<pad>",
]  # fmt: skip
TEXT = [
    "route the customer said the long screen of may", "technical", "billing", "assistant\n\nuser\nsystem\n", "<think>\n\n</think>\n\n",
    "Hello there. It is on its way.\n\nwhere is order A0?", '{"name": "lookup_order", "arguments": {"id": "A0"}}', "<tool_call>\n",
    "2 plus 3 make 5", "assistant: yes\nuser: no\n", "always sign the form", "\n\n\n", "lookup_order in transit find an order",
]  # fmt: skip

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHATML_TOOLS = (
    "{% if tools %}<|im_start|>system\nTools: {{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] or '' }}"
    "{% for c in m['tool_calls'] or [] %}<tool_call>\n{{ c['function'] | tojson }}\n</tool_call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{% if m['tool_calls'] %}{% for c in m['tool_calls'] %}{{ c['function'] | tojson }}{% endfor %}<|eom_id|>"
    "{% else %}{{ m['content'] | trim }}<|eot_id|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %} {{ m['content'] }}{{ eos_token }}"
    "{% elif loop.index0 > 0 and messages[loop.index0 - 1]['role'] == 'user' %}{{ raise_exception('roles must alternate') }}"
    "{% else %}[INST] {{ m['content'] }} [/INST]{% endif %}{% endfor %}"
)
QWEN3 = (
    "{% if tools %}<|im_start|>system\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% set ns = namespace(last=-1) %}"
    "{% for m in messages %}{% if m['role'] == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}"
    "{% if loop.index0 > ns.last and (loop.last or m['reasoning_content']) %}"
    "<think>\n{{ (m['reasoning_content'] or '').strip('\n') }}\n</think>\n\n{% endif %}"
    "{{ m['content'] or '' }}"
    "{% for c in m['tool_calls'] or [] %}<tool_call>\n{{ c['function'] | tojson }}\n</tool_call>{% endfor %}"
    "{% else %}{{ m['content'] }}{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
LAST_DIFFERS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}{% if not loop.last and m['role'] == 'assistant' %} (earlier){% endif %}{{ '\n' }}"
    "{{ m['content'] }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PLAIN = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
NO_PROMPT = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] | trim }}<|im_end|>{% endfor %}"
NO_END = (
    "{% for m in messages %}{{ m['role'] }}> {{ m['content'] }}{% if not loop.last %}{{ '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}\nassistant> {% endif %}"
)
OPENS_THINK = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
CLOSES_THINK = CHATML.replace("<|im_start|>assistant\n{% endif %}", "<|im_start|>assistant\n<think>\n\n</think>\n\n{% endif %}")
TEMPLATES = {
    "chatml": CHATML, "chatml-tools": CHATML_TOOLS, "llama3": LLAMA3, "gemma": GEMMA, "mistral": MISTRAL, "qwen3": QWEN3,
    "last-differs": LAST_DIFFERS, "plain": PLAIN, "no-prompt": NO_PROMPT, "no-end": NO_END, "opens-think": OPENS_THINK,
    "closes-think": CLOSES_THINK,
}  # fmt: skip


def byte_level() -> PreTrainedTokenizerFast:
    """As GPT-2, Llama 3 and Qwen: bytes and merges, which may reach over the end of a context."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=SPECIALS,
        show_progress=False,
    )
    backend.train_from_iterator(TEXT * 20, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def sentencepiece_like() -> PreTrainedTokenizerFast:
    """As Llama 2 and Mistral: a space is put before the first word, and the tokenizer gives a document its BOS."""
    from tokenizers.processors import TemplateProcessing

    backend = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    alphabet = sorted({char for text in TEXT for char in text} | {"▁", "X", "Y", "Z", "!", "+"} | {chr(code) for code in range(33, 127)})
    fallback = [f"<0x{code:02X}>" for code in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=900, initial_alphabet=alphabet, special_tokens=["<unk>", *SPECIALS, *fallback], show_progress=False
    )
    backend.train_from_iterator(TEXT * 20, trainer)
    vocabulary = backend.get_vocab()
    backend.post_processor = TemplateProcessing(single="<s> $A", pair=None, special_tokens=[("<s>", vocabulary["<s>"])])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>")


@pytest.fixture(scope="session", params=["byte-level", "sentencepiece"])
def plain_tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    return byte_level() if request.param == "byte-level" else sentencepiece_like()


@pytest.fixture
def made(plain_tokenizer: PreTrainedTokenizerFast) -> Callable[[str], Any]:
    """A tokenizer with one of the templates, by name."""

    def with_template(name: str) -> Any:
        other = copy.deepcopy(plain_tokenizer)
        other.chat_template = TEMPLATES.get(name, name)
        return other

    return with_template
