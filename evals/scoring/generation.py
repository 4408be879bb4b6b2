"""Greedy answers after contexts that are given in token ids; they end at the tokens and texts that end an answer, and nowhere else.

Contexts of unequal length are padded only where the model can be shown to be blind to padding; a model that is not (Mamba and its kin) gets
batches of equal length. So does one whose positions turn by the length of the longest row, where the answers may pass a length that counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lm_eval.models.utils_hf import stop_sequences_criteria
from transformers import GenerationConfig

from data_contracts.errors import EvaluationError
from data_contracts.model.lengths import length_steps
from evals.scoring.scorer import EXACT, MASK_ERROR, forget_lengths

Ids = tuple[int, ...]


class GreedyGenerator:
    """Decodes with a loaded model. Nothing of the model's own generation_config counts but the tokens that end a text."""

    def __init__(self, model: Any, tokenizer: Any, *, max_rows: int) -> None:
        self._model, self._tokenizer, self._max_rows = model, tokenizer, max_rows
        self.eos = _end_tokens(model, tokenizer)
        model.generation_config = GenerationConfig(eos_token_id=sorted(self.eos) or None)
        self._pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        self._steps = length_steps(model.config.get_text_config())
        self.caches = True
        self.caches = self._continues_as_it_reads()
        self.pads = self._is_blind_to_padding()

    def batches(self, contexts: Sequence[Ids], limit: int) -> list[list[int]]:
        """Numbers of the contexts that are decoded together, the longest first. `limit`: tokens that may follow each."""
        order = sorted(range(len(contexts)), key=lambda number: (-len(contexts[number]), number))
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for number in order:
            groups[self._group(len(contexts[number]), limit)].append(number)
        return [group[start : start + self._max_rows] for group in groups.values() for start in range(0, len(group), self._max_rows)]

    def _group(self, length: int, limit: int) -> tuple[int, ...]:
        """What contexts that are padded to one length have in common: how they are read, from the first token to the last answered."""
        turning = self._steps.turning(length)
        return turning if self.pads and turning == self._steps.turning(length + limit) else (length,)

    def answers(self, contexts: Sequence[Ids], *, ends: Collection[int], stops: Sequence[str], limit: int) -> list[str]:
        """The text after each context: up to the first of `ends` or `stops`, or `limit` tokens."""
        ends = {*ends, *self.eos}
        ids, mask = self._padded(contexts)
        width = ids.shape[1]
        criteria = stop_sequences_criteria(self._tokenizer, list(stops), width, len(contexts)) if stops else None
        with _failure_explained(self._model):
            said = self._generate(ids, mask, GenerationConfig(max_new_tokens=limit, **self._settings(ends)), stopping_criteria=criteria)
        return [self.text(_before_end(tokens[width:], ends), stops) for tokens in said.tolist()]

    def start_anew(self) -> None:
        """Before a batch: what the lengths of those before have left in the model is taken back."""
        forget_lengths(self._model, self._steps)

    def text(self, tokens: Sequence[int], stops: Sequence[str] = ()) -> str:
        """Tokens of an answer as text, special ones too: they are what a call or a reasoning block is marked with."""
        said = str(self._tokenizer.decode(list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False))
        for stop in stops:
            said = said.split(stop)[0] if stop else said
        return said

    def _settings(self, ends: Collection[int]) -> dict[str, Any]:
        return {"do_sample": False, "eos_token_id": sorted(ends) or None, "pad_token_id": self._pad, "use_cache": self.caches}

    @torch.no_grad()
    def _generate(self, ids: torch.Tensor, mask: torch.Tensor, config: GenerationConfig, **more: Any) -> Any:
        self.start_anew()
        return self._model.generate(input_ids=ids, attention_mask=mask, generation_config=config, **more)

    def _padded(self, contexts: Sequence[Ids]) -> tuple[torch.Tensor, torch.Tensor]:
        width = max(map(len, contexts))
        ids = torch.tensor([[self._pad] * (width - len(context)) + list(context) for context in contexts], device=self._model.device)
        mask = torch.tensor([[0] * (width - len(context)) + [1] * len(context) for context in contexts], device=self._model.device)
        return ids, mask

    def _continues_as_it_reads(self) -> bool:
        """Whether a batch that continues from its kept state gives what it gives when all of it is read again (RWKV's does not)."""
        size = min(self._model.config.get_text_config().vocab_size, 50)
        rows = [(size - 3, 2, 1, 4), (size - 1, 5, 3, 7)]
        settings = self._settings(()) | {"max_new_tokens": 4, "output_logits": True, "return_dict_in_generate": True}
        try:
            kept, again = (
                torch.stack(self._generate(*self._padded(rows), GenerationConfig(**settings | {"use_cache": way})).logits).float()
                for way in (True, False)
            )
        except (RuntimeError, TypeError, ValueError, IndexError, AttributeError):
            return True  # what cannot be checked is decoded in the model's own way
        tolerance = 1e-3 if self._model.dtype == torch.float32 else 1e-1
        first_tokens = kept[:2], again[:2]  # the first after the context, and the first from a kept state
        return bool(torch.allclose(*first_tokens, atol=tolerance, rtol=tolerance))

    def _is_blind_to_padding(self) -> bool:
        """Whether the first token after a short context is judged the same beside a longer one as alone.

        As in the scorer, what the two differ by is compared with what they would differ by if the padding were not masked at all.
        """
        size = min(self._model.config.get_text_config().vocab_size, 50)
        short, long = (size - 3, 2, 1), (size - 1, 5, 4, 3, 7, 6, 2)
        alone, (ids, mask) = self._padded([short]), self._padded([short, long])
        settings = GenerationConfig(max_new_tokens=1, output_logits=True, return_dict_in_generate=True, **self._settings(()))
        try:
            reference, masked, unmasked = (
                self._generate(*batch, settings).logits[0][0].float() for batch in (alone, (ids, mask), (ids, torch.ones_like(mask)))
            )
        except (RuntimeError, TypeError, ValueError, IndexError):
            return False
        error = masked - reference
        close = self._model.dtype != torch.float32 or bool((error.abs() <= EXACT * (1.0 + reference.abs())).all())
        return close and bool(error.norm() <= MASK_ERROR * (unmasked - reference).norm())


@contextmanager
def _failure_explained(model: Any) -> Iterator[None]:
    """Some models can be trained and scored, and cannot write: xLSTM mis-shapes its state, others lack a cache."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a model's own code raises any type
        line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        way_out = "give it suites with choices or texts, which are scored without generating"
        raise EvaluationError(type(model).__name__, f"cannot write answers: {line}", way_out) from error


def _before_end(tokens: Sequence[int], ends: Collection[int]) -> list[int]:
    return list(tokens[: next((at for at, token in enumerate(tokens) if token in ends), len(tokens))])


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end a text according to the model's generation_config and its tokenizer."""
    own = model.generation_config.eos_token_id if model.generation_config is not None else None
    listed = own if isinstance(own, list) else [own]
    return frozenset(token for token in (*listed, tokenizer.eos_token_id) if token is not None)
