"""Branches share a context only in a model that can be shown to obey their mask; a model that drops it is caught in every precision.

The models that drop it do so on purpose: their forward hands on everything but the mask, or leaves it out in one layer.
"""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from evals.scoring.scorer import ContinuationScorer

VOCABULARY = 263
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def _llama(spread: float, seed: int) -> Any:
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, max_position_embeddings=256, initializer_range=spread, **sizes)).eval()


def _gpt2(spread: float, seed: int) -> Any:
    torch.manual_seed(seed)
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, initializer_range=spread, **sizes)).eval()


def _without_mask(model: Any) -> Any:
    forward = model.forward

    def ignoring(*args: Any, attention_mask: Any = None, **kwargs: Any) -> Any:
        return forward(*args, **kwargs)

    ignoring.__signature__ = inspect.signature(forward)  # type: ignore[attr-defined]
    model.forward = ignoring
    return model


def _without_mask_in_one_layer(model: Any) -> Any:
    layer = model.model.layers[1].self_attn
    forward = layer.forward

    def ignoring(*args: Any, attention_mask: Any = None, **kwargs: Any) -> Any:
        return forward(*args, attention_mask=None, **kwargs)

    layer.forward = ignoring
    return model


def _scorer(model: Any) -> ContinuationScorer:
    return ContinuationScorer(model, max_length=256, max_tokens=None, max_rows=8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spread", [0.02, 0.1, 0.3])  # 0.02: what transformers draws; its scores are nearly even, so a leak is small
@pytest.mark.parametrize("build", [_llama, _gpt2])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_mask_that_is_obeyed_is_told_from_one_that_is_dropped(build: Any, seed: int, spread: float, dtype: torch.dtype) -> None:
    assert _scorer(build(spread, seed).to(dtype)).packs
    assert not _scorer(_without_mask(build(spread, seed)).to(dtype)).packs


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_one_layer_of_four_that_drops_the_mask_is_caught(seed: int, dtype: torch.dtype) -> None:
    assert not _scorer(_without_mask_in_one_layer(_llama(0.1, seed)).to(dtype)).packs


def test_a_model_that_cannot_take_the_mask_scores_one_by_one() -> None:
    model = _llama(0.1, 0)
    forward = model.forward

    def plain(input_ids: torch.Tensor, use_cache: bool = False) -> Any:
        return forward(input_ids, use_cache=use_cache)

    model.forward = plain
    assert not _scorer(model).packs


def test_without_the_check_a_dropped_mask_would_change_scores() -> None:
    """What the check is for: the same requests, scored with branches side by side, come out wrong where the mask is dropped."""
    context, answers = list(range(20, 40)), ([41, 42, 43], [51, 52, 53], [61, 62, 63])
    requests = [(context, list(answer)) for answer in answers]
    right = [scored.logprob for scored in _scorer(_llama(0.1, 0)).score(requests)]
    careful = _scorer(_without_mask(_llama(0.1, 0)))
    assert [scored.logprob for scored in careful.score(requests)] == pytest.approx(right, abs=1e-4)
    careful.packs = True
    assert max(abs(a - b.logprob) for a, b in zip(right, careful.score(requests), strict=True)) > 0.05
