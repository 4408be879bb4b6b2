"""Contexts are padded only in a model that can be shown to be blind to padding, in every precision."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.modeling_outputs import CausalLMOutputWithPast

from data_contracts.errors import EvaluationError
from evals.scoring.generation import GreedyGenerator

TOKENIZER = SimpleNamespace(pad_token_id=0, eos_token_id=None)
DTYPES = [torch.float32, torch.bfloat16]


def _llama(spread: float, seed: int) -> Any:
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=263, max_position_embeddings=256, initializer_range=spread, **sizes)).eval()


def _without_mask(model: Any) -> Any:
    forward = model.forward

    def ignoring(*args: Any, attention_mask: Any = None, **kwargs: Any) -> Any:
        return forward(*args, **kwargs)

    ignoring.__signature__ = inspect.signature(forward)  # type: ignore[attr-defined]
    model.forward = ignoring
    return model


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spread", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_model_that_reads_padding_is_not_padded(seed: int, spread: float, dtype: torch.dtype) -> None:
    assert GreedyGenerator(_llama(spread, seed).to(dtype), TOKENIZER, max_rows=4).pads
    assert not GreedyGenerator(_without_mask(_llama(spread, seed)).to(dtype), TOKENIZER, max_rows=4).pads


@pytest.mark.parametrize("dtype", DTYPES)
def test_contexts_of_unequal_length_share_no_batch_where_padding_counts(dtype: torch.dtype) -> None:
    generator = GreedyGenerator(_without_mask(_llama(0.1, 0)).to(dtype), TOKENIZER, max_rows=4)
    assert sorted(map(sorted, generator.batches([(1, 2), (3, 4, 5), (6, 7)], 4))) == [[0, 2], [1]]
    assert len(GreedyGenerator(_llama(0.1, 0).to(dtype), TOKENIZER, max_rows=4).batches([(1, 2), (3, 4, 5), (6, 7)], 4)) == 1


def _counting_on(model: Any) -> Any:
    """It says one more than the last number."""

    def forward(input_ids: torch.Tensor, **_: Any) -> CausalLMOutputWithPast:
        return CausalLMOutputWithPast(logits=torch.nn.functional.one_hot((input_ids + 1) % 50, 263).float())

    model.forward = forward
    return model


def test_an_answer_ends_where_the_model_its_tokenizer_or_the_template_ends_it_and_keeps_its_special_tokens() -> None:
    def decode(tokens: list[int], *, skip_special_tokens: bool, clean_up_tokenization_spaces: bool) -> str:
        assert not clean_up_tokenization_spaces
        return " ".join(str(token) for token in tokens if not (skip_special_tokens and token % 2))

    model = _counting_on(_llama(0.1, 0))
    model.generation_config.eos_token_id = [7, 20]
    generator = GreedyGenerator(model, SimpleNamespace(pad_token_id=0, eos_token_id=30, decode=decode), max_rows=4)
    contexts = [(1, 2), (1, 10), (25,)]
    assert generator.answers(contexts, ends=(), stops=(), limit=20) == ["3 4 5 6", "11 12 13 14 15 16 17 18 19", "26 27 28 29"]
    assert generator.answers(contexts, ends=(5, 13), stops=(), limit=3) == ["3 4", "11 12", "26 27 28"]


def test_a_model_that_cannot_write_is_named_with_the_way_out() -> None:
    """Transformers' xLSTM trains and scores, and mis-shapes its state when it generates."""
    sizes = {"hidden_size": 32, "embedding_dim": 32, "num_heads": 4, "num_blocks": 2, "num_hidden_layers": 2, "chunk_size": 8}
    generator = GreedyGenerator(
        AutoModelForCausalLM.from_config(AutoConfig.for_model("xlstm", vocab_size=263, **sizes)), TOKENIZER, max_rows=4
    )
    with pytest.raises(EvaluationError, match=r"^xLSTMForCausalLM: cannot write answers: .+ \(give it suites with choices or texts"):
        generator.answers([(1, 2, 3), (4, 5, 6)], ends=(), stops=(), limit=4)
