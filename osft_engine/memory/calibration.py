"""Text that stands for round 0 in the ledger: what the base model knew before the first skill.

A file of general text where there is one. Otherwise the model speaks for itself: it writes questions from its own chat prompt and
answers them, and it continues an empty document. What it says is what it knows, and no earlier data has to be kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from data_contracts.errors import TrainingError
from data_contracts.rendering import TextRenderer
from data_contracts.rows.jsonl import read_objects
from osft_engine.compute.peak_memory import is_out_of_memory
from osft_engine.data.examples import Example, encode_row

_MARKER = "\u2402skillstack-question\u2403"
_ROWS = 64  # sampled side by side at most: each step reads all weights once, whatever the number of rows
_LENGTH = 128  # tokens of one answer or document


def calibration_examples(
    path: Path | None, model: Any, renderer: TextRenderer, *, tokens: int, max_tokens: int, seed: int
) -> list[Example]:
    """About `tokens` tokens of general text: from the file, or in the model's own words."""
    if path is None:
        return generate_examples(model, renderer, tokens=tokens, length=min(_LENGTH, max_tokens // 2), seed=seed)
    found = [each for origin, row in read_objects(path) for each in encode_row(renderer, row, origin, unmask=True, max_tokens=max_tokens)]
    usable = [each for each in found if 1 < len(each.ids) <= max_tokens]
    if not usable:
        raise TrainingError(
            str(path), f"has no text of 2 to {max_tokens} tokens to calibrate on", "give other text, or none: the model then writes its own"
        )
    return usable


@torch.no_grad()
def generate_examples(model: Any, renderer: TextRenderer, *, tokens: int, length: int, seed: int) -> list[Example]:
    """Sample the model at temperature 1, half as conversations (where it has a chat template), half as documents."""
    was_training = model.training
    model.eval()
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    made: list[Example] = []
    try:
        while (missing := tokens - sum(len(each.ids) for each in made)) > 0:
            rows = max(1, min(_ROWS, round(missing / length / 2)))
            made.extend(_documents(model, renderer, rows, length, len(made)))
            if renderer.template.exists:
                made.extend(_conversations(model, renderer, rows, length, len(made)))
    finally:
        torch.set_rng_state(state)
        model.train(was_training)
    return made


def _documents(model: Any, renderer: TextRenderer, rows: int, length: int, count: int) -> list[Example]:
    tokenizer = renderer.tokenizer
    start = next((token for token in (tokenizer.bos_token_id, tokenizer.eos_token_id) if token is not None), 0)
    written = _sample(model, renderer, [[start]] * rows, length, at_least=length)
    return [_example(row, f"generated:{count + index}") for index, row in enumerate(written)]


def _conversations(model: Any, renderer: TextRenderer, rows: int, length: int, count: int) -> list[Example]:
    tokenizer = renderer.tokenizer
    opening = _asked(renderer, _MARKER)[1].partition(_MARKER)[0]
    head = tokenizer(opening, add_special_tokens=False)["input_ids"] if opening else []
    if not head:
        return _documents(model, renderer, rows, length, count)
    asked = _sample(model, renderer, [head] * rows, length // 2, at_least=1)
    questions = [tokenizer.decode(row[len(head) :], skip_special_tokens=True).strip() or "Hello" for row in asked]
    prompts = [_asked(renderer, question)[0] for question in questions]
    answered = _sample(model, renderer, prompts, length, at_least=1)
    return [_example(row, f"generated:{count + index}") for index, row in enumerate(answered)]


def _asked(renderer: TextRenderer, question: str) -> tuple[Sequence[int], str]:
    return renderer.context({"messages": [{"role": "user", "content": question}]}, "the model's own question")


def _sample(model: Any, renderer: TextRenderer, prompts: Sequence[Sequence[int]], new_tokens: int, *, at_least: int) -> list[list[int]]:
    """Continue each prompt; the rows come back without padding, cut after the first end token."""
    tokenizer = renderer.tokenizer
    pad = next((token for token in (tokenizer.pad_token_id, tokenizer.eos_token_id) if token is not None), 0)
    width = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=model.device)
    ends = model.generation_config.eos_token_id
    stop = {*renderer.end_ids, *(ends if isinstance(ends, list) else [] if ends is None else [ends])}
    settings = {
        "eos_token_id": sorted(stop) or None,
        "do_sample": True,
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
        "repetition_penalty": 1.0,
        "pad_token_id": pad,
    }
    with _generation_explained(model):
        grown = model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=new_tokens, min_new_tokens=min(at_least, new_tokens), **settings
        )
    rows: list[list[int]] = []
    for prompt, row in zip(prompts, grown.tolist(), strict=True):
        said: list[int] = []
        for token in row[width:]:
            said.append(token)
            if token in stop:
                break
        rows.append([*prompt, *said])
    return rows


@contextmanager
def _generation_explained(model: Any) -> Iterator[None]:
    """Some models can be trained and cannot write: xLSTM mis-shapes its state, others lack a cache, or their logits are not finite."""
    try:
        yield
    except Exception as error:  # a model's own code raises any type
        if is_out_of_memory(error):
            raise
        line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        what = f"is not given, and {type(model).__name__} cannot write text in its place: {line}"
        raise TrainingError("calibration", what, "give a JSONL file of general text as calibration") from error


def _example(ids: Sequence[int], origin: str) -> Example:
    return Example(tuple(ids), (False, *[True] * (len(ids) - 1)), origin)
