"""lm-eval's HFLM with less recomputation: one pass per prompt whatever the number of choices, batches by length and token budget.

Scores are those of HFLM (the tests compare them); only the batching, and what is computed twice, differ.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from lm_eval import utils
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import has_bos_prefix

from evals.config import EvaluationConfig

Scored = tuple[float, bool]
TokenRequest = tuple[Any, list[int], list[int]]


@dataclass
class PackedRow:
    """One context and its continuations side by side, [context | a0 a1 | b0 b1 b2]; each sees the context and itself only."""

    context: list[int]
    continuations: dict[tuple[int, ...], list[int]] = field(default_factory=dict)  # tokens -> positions of the requests

    @property
    def branches(self) -> list[tuple[int, ...]]:
        """What has to be read of each continuation: all but its last token, nothing for one-token continuations; equal ones once."""
        return sorted({tokens[:-1] for tokens in self.continuations if len(tokens) > 1})

    @property
    def length(self) -> int:
        return len(self.context) + sum(map(len, self.branches))


class ScoringLM(HFLM):  # type: ignore[misc]
    """HFLM over a loaded model. `on_request` is called with the number of requests that were just answered."""

    def __init__(self, model: Any, tokenizer: Any, config: EvaluationConfig, on_request: Callable[[int], None]) -> None:
        super().__init__(pretrained=model, tokenizer=tokenizer, max_length=config.max_length, batch_size=config.max_batch_size)
        self._limits = config
        self.on_request = on_request
        self._greedy_answers: dict[str, str] = {}
        self._keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._packs = self._can_pack()

    # ------------------------------------------------------------------------------------------ requests

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[Scored]:
        pairs = [request.args for request in requests]
        encoded = self._encode_pairs(pairs)
        return self._loglikelihood_tokens([(pair, *tokens) for pair, tokens in zip(pairs, encoded, strict=True)])

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = True) -> list[float]:
        texts = [request.args[0] for request in requests]
        owners, windows = [], []
        for index, tokens in enumerate(self._encode(texts)):
            rolling = utils.get_rolling_token_windows(tokens, self.prefix_token_id, max_seq_len=self.max_length, context_len=1)
            for window in rolling:
                owners.append(index)
                windows.append((None, *utils.make_disjoint_window(window)))
        totals = [0.0] * len(texts)
        for index, (logprob, _) in zip(owners, self._loglikelihood_tokens(windows), strict=True):
            totals[index] += logprob
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        answers: list[str] = super().generate_until(requests, disable_tqdm=True)
        self.on_request(len(requests))
        return answers

    # ------------------------------------------------------------------------------------------ tokens

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        """`tok_encode` of many texts at once; a text that starts with BOS does not get a second one."""
        if not texts:
            return []
        prefix = self.tokenizer.decode(self.prefix_token_id)
        special = {} if self.add_bos_token is None else {"add_special_tokens": self.add_bos_token}
        encoded: list[list[int]] = self.tokenizer(list(texts), **special)["input_ids"]
        for index, text in enumerate(texts):
            if has_bos_prefix(text, prefix):
                encoded[index] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return encoded

    def _encode_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[list[int], list[int]]]:
        """`_encode_pair` of many pairs: space at the end of a context belongs to the continuation; split after joint encoding."""
        contexts = [context.rstrip() for context, _ in pairs]
        wholes = self._encode([context + continuation for context, continuation in pairs])
        unique = dict.fromkeys(contexts)
        codes = dict(zip(unique, self._encode(list(unique)), strict=True))
        encoded = []
        for (context, continuation), stripped, whole in zip(pairs, contexts, wholes, strict=True):
            if not context:
                alone = self.tokenizer(continuation, add_special_tokens=False)["input_ids"]
                encoded.append(([self.prefix_token_id], alone) if self.prefix_token_id != alone[0] else (alone[:1], alone[1:]))
            else:
                encoded.append((codes[stripped], whole[len(codes[stripped]) :]))
        return encoded

    def _loglikelihood_tokens(self, requests: Sequence[TokenRequest], **_: Any) -> list[Scored]:
        """(log-probability in nats, whether greedy decoding would give it) of each continuation after its context."""
        scored: list[Scored | None] = [None] * len(requests)
        rows = self._rows(requests)
        for batch in self._batches(rows):
            self._score_batch(batch, scored)
            self.on_request(sum(len(owners) for row in batch for owners in row.continuations.values()))
        return [score for score in scored if score is not None]

    def _rows(self, requests: Sequence[TokenRequest]) -> list[PackedRow]:
        groups: dict[tuple[int, ...], list[PackedRow]] = defaultdict(list)
        for index, (_, context, continuation) in enumerate(requests):
            # Too long: keep the end, as HFLM does.
            kept = context[-(max(1, self.max_length + 1 - len(continuation))) :]
            rows = groups[tuple(kept)]
            if not rows or not (self._packs or len(continuation) == 1):
                rows.append(PackedRow(kept))
            rows[-1].continuations.setdefault(tuple(continuation), []).append(index)
        return [row for rows in groups.values() for row in rows]

    def _batches(self, rows: Sequence[PackedRow]) -> list[list[PackedRow]]:
        """Longest first, so that padding is small and memory runs out at once or never."""
        batches: list[list[PackedRow]] = []
        for row in sorted(rows, key=lambda row: (-row.length, row.context)):
            width = batches[-1][0].length if batches else 0
            full = not batches or len(batches[-1]) >= self._limits.max_batch_size
            if full or width * (len(batches[-1]) + 1) > self._limits.max_tokens_per_batch:
                batches.append([])
            batches[-1].append(row)
        return batches

    def _score_batch(self, batch: Sequence[PackedRow], scored: list[Scored | None]) -> None:
        logits, first = self._forward(batch)
        where: list[tuple[int, int]] = []
        wanted: list[int] = []
        spans: list[tuple[int, int, list[int]]] = []
        for number, row in enumerate(batch):
            starts = _branch_starts(row)
            for tokens, owners in row.continuations.items():
                branch = starts[tokens[:-1]] if len(tokens) > 1 else 0
                positions = [len(row.context) - 1, *range(branch, branch + len(tokens) - 1)]
                spans.append((len(where), len(where) + len(tokens), owners))
                where += [(number, position - first) for position in positions]
                wanted += tokens
        index = torch.tensor(where, device=logits.device)
        target = torch.tensor(wanted, device=logits.device)
        chosen = logits[index[:, 0], index[:, 1]].float()
        logprobs = torch.log_softmax(chosen, dim=-1).gather(1, target[:, None])[:, 0].cpu()
        greedy = chosen.argmax(dim=-1).eq(target).cpu()
        for start, stop, owners in spans:
            score = (float(logprobs[start:stop].sum()), bool(greedy[start:stop].all()))
            for owner in owners:
                scored[owner] = score

    @torch.no_grad()
    def _forward(self, batch: Sequence[PackedRow]) -> tuple[torch.Tensor, int]:
        """Logits [batch, kept positions, vocabulary] and the position of the first kept one."""
        width = max(row.length for row in batch)
        first = min(len(row.context) for row in batch) - 1 if self._keeps_logits else 0
        ids = torch.zeros(len(batch), width, dtype=torch.long)
        for number, row in enumerate(batch):
            tokens = row.context + [token for branch in row.branches for token in branch]
            ids[number, : len(tokens)] = torch.tensor(tokens)
        extra: dict[str, Any] = {"logits_to_keep": width - first} if self._keeps_logits else {}
        if any(len(row.branches) > 1 for row in batch):
            extra |= self._packed_attention(batch, width)
        return self.model(ids.to(self.device), use_cache=False, **extra).logits, first

    def _packed_attention(self, batch: Sequence[PackedRow], width: int) -> dict[str, torch.Tensor]:
        """The mask under which every branch sees the context and itself, and the positions that continue the context's."""
        branch = torch.zeros(len(batch), width, dtype=torch.long)
        positions = torch.arange(width).repeat(len(batch), 1)
        for number, row in enumerate(batch):
            for name, (tokens, start) in enumerate(_branch_starts(row).items(), start=1):
                branch[number, start : start + len(tokens)] = name
                positions[number, start : start + len(tokens)] = torch.arange(len(row.context), len(row.context) + len(tokens))
        causal = torch.ones(width, width, dtype=torch.bool).tril()
        visible = causal & ((branch[:, None, :] == 0) | (branch[:, None, :] == branch[:, :, None]))
        mask = torch.zeros(len(batch), 1, width, width, dtype=self.model.dtype)
        mask.masked_fill_(~visible[:, None], torch.finfo(self.model.dtype).min)
        return {"attention_mask": mask.to(self.device), "position_ids": positions.to(self.device)}

    def _can_pack(self) -> bool:
        """Whether this model honours the mask of `_packed_attention`: a tiny prompt must score the same with it and without."""
        size = min(self.model.config.vocab_size, 50)
        requests: list[TokenRequest] = [(None, [size - 3, 1, 2], continuation) for continuation in ([3, 4, 5], [6, 7, 8], [9])]
        results = []
        for packs in (True, False):
            self._packs, counted, self.on_request = packs, self.on_request, lambda _: None
            try:
                results.append(torch.tensor([score for score, _ in self._loglikelihood_tokens(requests)]))
            except (RuntimeError, TypeError, ValueError):
                return False
            finally:
                self.on_request = counted
        tolerance = 1e-4 if self.model.dtype == torch.float32 else 5e-2
        return bool(torch.allclose(results[0], results[1], atol=tolerance, rtol=tolerance))


def _branch_starts(row: PackedRow) -> dict[tuple[int, ...], int]:
    """{branch: position of its first token in the row}."""
    starts, position = {}, len(row.context)
    for branch in row.branches:
        starts[branch] = position
        position += len(branch)
    return starts
