"""What a request scores depends on no other request, also in models that read longer rows in another way. The right values are those of
transformers, over one request and its own tokens, with a model made anew: dynamic RoPE remembers what was read before."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers

from data_contracts.model.lengths import UNLIMITED, LengthSteps, length_steps
from evals.scoring.generation import GreedyGenerator
from evals.scoring.scorer import ContinuationScorer, Request

STEP = 32
SIZES = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "initializer_range": 0.5,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LONGROPE = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
Build = Callable[[], Any]


def _build(kind: str, **changes: Any) -> Any:
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**SIZES | changes)
    name = f"{kind.removesuffix('Text')}ForCausalLM"
    return getattr(transformers, name)(config).eval()


def _gemma3() -> Any:
    return _build("Gemma3Text", sliding_window=STEP)


def _mistral() -> Any:
    return _build("Mistral", sliding_window=STEP)


def _phi3() -> Any:
    return _build("Phi3", original_max_position_embeddings=STEP, rope_parameters=LONGROPE | {"original_max_position_embeddings": STEP})


def _phi3_with_window() -> Any:
    longrope = LONGROPE | {"original_max_position_embeddings": STEP}
    return _build("Phi3", original_max_position_embeddings=STEP, rope_parameters=longrope, sliding_window=STEP + 10)


def _dynamic() -> Any:
    return _build("Llama", max_position_embeddings=STEP, rope_parameters=DYNAMIC)


MODELS = [_gemma3, _mistral, _phi3, _phi3_with_window, _dynamic]


def _scorer(model: Any, **changes: Any) -> ContinuationScorer:
    return ContinuationScorer(model, **{"max_length": 200, "max_tokens": 4096, "max_rows": 16} | changes)


def _right(build: Build, requests: list[Request]) -> list[float]:
    """Of each request, alone in a new model; the last token is asked for and not read."""
    values, new = [], build()
    for context, tokens in requests:
        ids = torch.tensor([[*context, *tokens]])
        with torch.no_grad():
            logprobs = torch.log_softmax(deepcopy(new)(ids[:, :-1], use_cache=False).logits[0], -1)
        values.append(float(logprobs[len(context) - 1 :].gather(1, ids[0, len(context) :, None]).sum()))
    return values


def _requests(lengths: list[int], choices: list[int]) -> list[Request]:
    """One context of each length, and after each a choice of each length."""
    rng = torch.Generator().manual_seed(1)
    draw = lambda n: torch.randint(3, 100, (n,), generator=rng).tolist()  # noqa: E731
    contexts = [draw(length) for length in lengths]
    return [(context, draw(length)) for context in contexts for length in choices]


@pytest.mark.parametrize("build", MODELS)
@pytest.mark.parametrize(
    ("lengths", "choices"),
    [
        ([60, 14], [3, 3, 3]),
        ([60, 50, 40, 31, 30, 29, 14], [1, 2, 3, 5]),  # the choices of one context lie on both sides of the step
        ([27, 28, 24], [2, 9, 2, 9]),  # rows of branches, wider than the step and not past it
    ],
)
def test_a_likelihood_is_the_one_it_has_alone(build: Build, lengths: list[int], choices: list[int]) -> None:
    requests = _requests(lengths, choices)
    scorer = _scorer(build())
    assert scorer.packs, "or the branches would be no test"
    scored = scorer.score(requests)
    assert [one.logprob for one in scored] == pytest.approx(_right(build, requests), abs=2e-3)
    again = scorer.score(requests[-1:])
    assert again[0].logprob == pytest.approx(scored[-1].logprob, abs=2e-3), "and whatever was scored before"


def test_rows_on_one_side_of_a_step_are_read_together() -> None:
    """Independence costs one batch more and no more: choices still stand side by side."""
    scorer = _scorer(_mistral())
    batches = scorer._batches(scorer._rows(_requests([60, 50, 14, 12], [2, 2, 2])))
    assert [[len(row.continuations) for row in batch] for batch in batches] == [[1] * 6, [3, 3]]
    scorer = _scorer(_build("Mistral", sliding_window=None))
    assert len(scorer._batches(scorer._rows(_requests([60, 50, 14, 12], [2, 2, 2])))) == 1


def test_padding_does_not_count_on_past_the_positions_of_the_model() -> None:
    """Two rows of branches, both wider than the model has positions: the narrower one is padded."""

    def build() -> Any:
        torch.manual_seed(0)
        sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 48, "initializer_range": 0.3}
        return transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=100, **sizes)).eval()

    requests = _requests([30, 30], [9, 9, 9, 9])[:-1]
    scorer = _scorer(build(), max_length=48)
    (batch,) = scorer._batches(scorer._rows(requests))
    assert [len(row.tokens) > 48 for row in batch] == [True, True]
    assert [one.logprob for one in scorer.score(requests)] == pytest.approx(_right(build, requests), abs=2e-3)


@pytest.mark.parametrize("build", [_phi3, _dynamic])
def test_an_answer_is_the_one_it_has_alone(build: Build) -> None:
    contexts = [tuple(context) for context, _ in _requests([60, 40, 40, 30, 29, 14, 12], [1])]
    generator = GreedyGenerator(build(), SimpleNamespace(pad_token_id=0, eos_token_id=None), max_rows=8)
    assert generator.pads
    config = transformers.GenerationConfig(max_new_tokens=6, do_sample=False, pad_token_id=0)
    said: dict[int, str] = {}
    generator.text = lambda tokens, stops=(): str(list(tokens))  # type: ignore[method-assign]
    batches = generator.batches(contexts, 6)
    for batch in batches:
        said |= dict(zip(batch, generator.answers([contexts[at] for at in batch], ends=(), stops=(), limit=6), strict=True))
    for number, context in enumerate(contexts):
        ids = torch.tensor([context])
        model = build()
        model.generation_config = transformers.GenerationConfig()
        alone = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config)[0, len(context) :]
        assert said[number] == str(alone.tolist())
    assert [5, 6] in batches, "short contexts are still padded to one length"


def test_where_the_steps_of_a_model_are_found() -> None:
    assert length_steps(_mistral().config) == LengthSteps(window=STEP)
    assert length_steps(_phi3_with_window().config) == LengthSteps(window=STEP + 10, switches=(STEP,))
    assert length_steps(_dynamic().config) == LengthSteps(stretches=STEP)
    assert length_steps(_build("Llama").config) == LengthSteps(UNLIMITED, (), UNLIMITED)
    layers = {"full_attention": LONGROPE | {"original_max_position_embeddings": 48}, "sliding_attention": {"rope_type": "default"}}
    assert length_steps(SimpleNamespace(rope_parameters=layers, max_position_embeddings=256)).switches == (48,)
    older = SimpleNamespace(rope_scaling={"type": "su"}, original_max_position_embeddings=40, max_position_embeddings=256)
    assert length_steps(older).switches == (40,), "code that came with a model"
