"""Log-probabilities of continuations under a causal language model: one pass per context, batches by length and token budget.

Legend: B rows of a batch, T width of a batch in tokens, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from data_contracts.model.lengths import UNLIMITED, LengthSteps, length_steps

Request = tuple[list[int], list[int]]  # (tokens of the context, tokens of the continuation)
CPU_TOKENS, DEVICE_TOKENS = 2048, 32768  # in one pass; more on a CPU only leaves its cache
ROW_TOKENS = 2048  # widest row that is packed: its mask grows with the square
EXACT = 1e-4  # nats, absolute and relative: what float32 sums in another order differ by, and more
MASK_ERROR = 0.05  # of what no mask at all would change: bfloat16 measured 0.015 at most, one layer of four without it 0.06 at least


@dataclass(frozen=True)
class Scored:
    """A continuation after its context: nats, and for each of its tokens whether greedy decoding would have chosen it."""

    logprob: float
    greedy: tuple[bool, ...]


@dataclass
class PackedRow:
    """One context and its continuations side by side, [context | a0 a1 | b0 b1 b2]; each sees the context and itself only."""

    context: list[int]
    continuations: dict[tuple[int, ...], list[int]] = field(default_factory=dict)  # tokens -> numbers of the requests

    @cached_property
    def starts(self) -> dict[tuple[int, ...], int]:
        """{branch: position of its first token}. A branch is what must be read: all but the last token; another's beginning is free."""
        starts: dict[tuple[int, ...], int] = {}
        position = len(self.context)
        leads = {tokens[:-1] for tokens in self.continuations if len(tokens) > 1}
        for branch in sorted(leads, key=lambda tokens: (-len(tokens), tokens)):
            if not any(_begins(branch, other) for other in starts):
                starts[branch] = position
                position += len(branch)
        return starts

    @cached_property
    def tokens(self) -> list[int]:
        return self.context + [token for branch in self.starts for token in branch]

    @property
    def length(self) -> int:
        """Tokens that its longest continuation is read in: the row is wider where branches stand side by side."""
        return len(self.context) - 1 + max(map(len, self.continuations), default=1)

    def positions(self, continuation: tuple[int, ...]) -> list[int]:
        """Where the logits of each token of a continuation are."""
        lead = continuation[:-1]
        start = next((at for branch, at in self.starts.items() if _begins(lead, branch)), 0)
        return [len(self.context) - 1, *range(start, start + len(lead))]

    def in_one_line(self, continuation: tuple[int, ...]) -> bool:
        """Whether the row with this continuation is still one plain sequence, with no branches side by side."""
        leads = [tokens[:-1] for tokens in self.continuations]
        return all(_begins(continuation[:-1], lead) or _begins(lead, continuation[:-1]) for lead in leads)

    def has_room(self, continuation: tuple[int, ...], window: int) -> bool:
        """Whether a branch more is cheaper here than in a row of its own: there is a context to share, and the row stays narrow."""
        width = len(self.context) + sum(len(tokens) - 1 for tokens in self.continuations) + len(continuation)
        return len(self.context) >= len(continuation) and width <= min(window, max(2 * len(self.context), ROW_TOKENS))


class ContinuationScorer:
    """Scores continuations with a loaded model. Branches share their context where the model can be shown to honour the mask."""

    def __init__(self, model: Any, *, max_length: int, max_tokens: int | None, max_rows: int) -> None:
        self.model, self.max_length, self.max_rows = model, max_length, max_rows
        self.device: torch.device = model.device
        self.max_tokens = max_tokens or (CPU_TOKENS if self.device.type == "cpu" else DEVICE_TOKENS)
        self._keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._steps = length_steps(model.config.get_text_config())
        self.packs = self._honours_branches()

    def score(self, requests: Sequence[Request], on_scored: Callable[[list[int]], None] = lambda _: None) -> list[Scored]:
        """Score every request, in order; `on_scored` is given the numbers of the requests that a batch answered.

        Each is scored as it would be alone. A context that does not fit is cut at its beginning. Raises ValueError for a continuation that
        does not fit by itself.
        """
        scored: dict[int, Scored] = {}
        for batch in self._batches(self._rows(requests)):
            fresh = self._score_or_split(batch)
            scored |= fresh
            on_scored(list(fresh))
        return [scored[number] for number in range(len(requests))]

    def _rows(self, requests: Sequence[Request]) -> list[PackedRow]:
        groups: dict[tuple[tuple[int, ...], ...], list[PackedRow]] = defaultdict(list)
        for number, (context, tokens) in enumerate(requests):
            if not context or not tokens or len(tokens) > self.max_length:
                raise ValueError(
                    f"a continuation of {len(tokens)} tokens after {len(context)} does not fit a model of {self.max_length} tokens"
                )
            kept, continuation = context[-(self.max_length + 1 - len(tokens)) :], tuple(tokens)
            rows = groups[tuple(kept), self._steps.reading(len(kept) - 1 + len(tokens))]
            shared = rows and ((self.packs and rows[-1].has_room(continuation, self._steps.window)) or rows[-1].in_one_line(continuation))
            if not shared:
                rows.append(PackedRow(kept))
            rows[-1].continuations.setdefault(continuation, []).append(number)
        return [row for rows in groups.values() for row in rows]

    def _batches(self, rows: Sequence[PackedRow]) -> list[list[PackedRow]]:
        """Longest first, so that padding is small and memory runs out at once or never; in each batch rows of one reading only."""
        readings: dict[tuple[int, ...], list[PackedRow]] = defaultdict(list)
        for row in sorted(rows, key=lambda row: (-len(row.tokens), row.tokens)):
            readings[self._steps.reading(row.length)].append(row)
        return [batch for _, alike in sorted(readings.items(), reverse=True) for batch in self._filled(alike)]

    def _filled(self, rows: Sequence[PackedRow]) -> list[list[PackedRow]]:
        batches: list[list[PackedRow]] = []
        for row in rows:
            if not batches or len(batches[-1]) >= self.max_rows or len(batches[-1][0].tokens) * (len(batches[-1]) + 1) > self.max_tokens:
                batches.append([])
            batches[-1].append(row)
        return batches

    def _score_or_split(self, batch: list[PackedRow]) -> dict[int, Scored]:
        """Score a batch; where the device has not the memory, its halves."""
        try:
            return self._score_batch(batch)
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
        torch.cuda.empty_cache()
        self.max_tokens //= 2
        return self._score_or_split(batch[: len(batch) // 2]) | self._score_or_split(batch[len(batch) // 2 :])

    def _score_batch(self, batch: Sequence[PackedRow]) -> dict[int, Scored]:
        logprobs, greedy, spans = self._token_logprobs(batch)
        return {
            owner: Scored(float(logprobs[start:stop].sum()), tuple(greedy[start:stop])) for start, stop, owners in spans for owner in owners
        }

    def _token_logprobs(
        self, batch: Sequence[PackedRow], *, masked: bool = True
    ) -> tuple[torch.Tensor, list[bool], list[tuple[int, int, list[int]]]]:
        """(nats of every token of every continuation, whether it is the likeliest, (start, stop, requests) of each continuation)."""
        logits, first = self._forward(batch, masked=masked)
        in_row: list[int] = []
        at: list[int] = []
        wanted: list[int] = []
        spans: list[tuple[int, int, list[int]]] = []
        for number, row in enumerate(batch):
            for continuation, owners in row.continuations.items():
                spans.append((len(wanted), len(wanted) + len(continuation), owners))
                in_row += [number] * len(continuation)
                at += row.positions(continuation)
                wanted += continuation
        target = torch.tensor(wanted, device=self.device)
        chosen = logits[torch.tensor(in_row), torch.tensor(at) - first].float()  # (tokens, V)
        logprobs = torch.log_softmax(chosen, dim=-1).gather(1, target[:, None])[:, 0].cpu()
        return logprobs, chosen.argmax(dim=-1).eq(target).tolist(), spans

    @torch.no_grad()
    def _forward(self, batch: Sequence[PackedRow], *, masked: bool) -> tuple[torch.Tensor, int]:
        """(logits B x kept positions x V, the first position that was kept). Not `masked`: branches see those before them."""
        width = max(len(row.tokens) for row in batch)
        first = min(len(row.context) for row in batch) - 1 if self._keeps_logits else 0
        ids = torch.zeros(len(batch), width, dtype=torch.long)
        for number, row in enumerate(batch):
            ids[number, : len(row.tokens)] = torch.tensor(row.tokens)
        extra: dict[str, Any] = {"logits_to_keep": width - first} if self._keeps_logits else {}
        if any(len(row.starts) > 1 for row in batch):
            extra |= self._side_by_side(batch, width)
        if not masked:
            extra.pop("attention_mask", None)
        forget_lengths(self.model, self._steps)
        return self.model(ids.to(self.device), use_cache=False, **extra).logits, first

    def _side_by_side(self, batch: Sequence[PackedRow], width: int) -> dict[str, torch.Tensor]:
        """Mask (B x 1 x T x T, 0 where a token may look) and position ids (B x T): a branch continues the context, blind to the others.

        Padding is at position 0: counted on, it would pass the positions that the model has, or lengthen what RoPE turns by.
        """
        branch_of = torch.zeros(len(batch), width, dtype=torch.long)
        positions = torch.zeros(len(batch), width, dtype=torch.long)
        for number, row in enumerate(batch):
            positions[number, : len(row.context)] = torch.arange(len(row.context))
            for name, (branch, start) in enumerate(row.starts.items(), start=1):
                branch_of[number, start : start + len(branch)] = name
                positions[number, start : start + len(branch)] = torch.arange(len(row.context), len(row.context) + len(branch))
        causal = torch.ones(width, width, dtype=torch.bool).tril()
        visible = causal & ((branch_of[:, None, :] == 0) | (branch_of[:, None, :] == branch_of[:, :, None]))
        mask = torch.zeros(len(batch), 1, width, width, dtype=self.model.dtype)
        mask.masked_fill_(~visible[:, None], torch.finfo(self.model.dtype).min)
        return {"attention_mask": mask.to(self.device), "position_ids": positions.to(self.device)}

    def _honours_branches(self) -> bool:
        """Whether this model obeys the mask: the tokens of branches side by side must score as they do in rows of their own.

        What they differ by is compared with what they would differ by without any mask: rounding is a small part of that in every
        precision, a mask that is ignored is all of it.
        """
        together, alone = _probe(min(self.model.config.get_text_config().vocab_size, 50), min(8, self.max_length // 2))
        try:
            reference = torch.cat([self._token_logprobs([row])[0] for row in alone])
            error, unmasked = (self._token_logprobs([together], masked=masked)[0] - reference for masked in (True, False))
        except (RuntimeError, TypeError, ValueError):
            return False
        close = self.model.dtype != torch.float32 or bool((error.abs() <= EXACT * (1.0 + reference.abs())).all())
        return close and bool(error.norm() <= MASK_ERROR * unmasked.norm())


def _probe(vocabulary: int, length: int) -> tuple[PackedRow, list[PackedRow]]:
    """Three continuations of one context in one row, and each in a row of its own; context and continuations of `length` tokens."""
    context, *branches = ([(7 * place + 11 * place * number + 3) % vocabulary for place in range(1, length + 1)] for number in range(4))
    together, alone = PackedRow(context), [PackedRow(context) for _ in branches]
    for number, (branch, row) in enumerate(zip(branches, alone, strict=True)):
        together.continuations[tuple(branch)] = [number]
        row.continuations[tuple(branch)] = [number]
    return together, alone


def _begins(tokens: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return other[: len(tokens)] == tokens


@torch.no_grad()
def forget_lengths(model: Any, steps: LengthSteps) -> None:
    """Dynamic RoPE keeps the frequencies of the longest row so far; transformers takes the first ones back when it reads a short row."""
    if steps.stretches < UNLIMITED:
        model(torch.zeros(1, 1, dtype=torch.long, device=model.device), use_cache=False)
