"""Examples to the tensors of a forward pass, under a budget of tokens, in an order that a resumed run repeats.

packed   examples end to end in one row; position ids restart at each, from which transformers builds a block-diagonal mask, so that no
         example attends to another (whether the model builds that mask: probe.py)
padded   one example per row, similar lengths together; cheaper on a CPU, where attention over a long packed row costs more than padding
single   one example per forward pass, for models that give other results with padding
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from data_contracts.errors import TrainingError
from osft_engine.data.examples import Example

Layout = Literal["packed", "padded", "single"]


@dataclass(frozen=True)
class MicroBatch:
    """One forward pass.

    input_ids, position_ids: (B, T); attention_mask: (B, T) or None (packed).
    rows: (N,) flat positions whose next token counts in the loss; targets: (N,) those tokens; tokens: real tokens, without padding.
    """

    input_ids: Tensor
    position_ids: Tensor
    attention_mask: Tensor | None
    rows: Tensor
    targets: Tensor
    tokens: int
    origins: tuple[str, ...]

    def to(self, device: torch.device) -> MicroBatch:
        mask = None if self.attention_mask is None else self.attention_mask.to(device)
        tensors = (self.input_ids.to(device), self.position_ids.to(device), mask, self.rows.to(device), self.targets.to(device))
        return MicroBatch(*tensors, self.tokens, self.origins)


def epoch_steps(count: int, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Indices of each optimiser step of one epoch: a permutation that depends on seed and epoch only."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(count, generator=generator).tolist()
    return [order[start : start + batch_size] for start in range(0, count, batch_size)]


def micro_batches(examples: Sequence[Example], *, max_tokens: int, layout: Layout) -> list[MicroBatch]:
    """Split the examples of one step into forward passes of at most `max_tokens` tokens each, longest first.

    Raises TrainingError for an example that no pass can hold.
    """
    require_fitting(examples, max_tokens)
    groups: list[list[Example]] = []
    for example in sorted(examples, key=lambda each: -len(each.ids)):
        group = next((group for group in groups if _fits(group, example, max_tokens, layout)), None)
        if group is None:
            groups.append([example])
        else:
            group.append(example)
    return [_pad(group) if layout == "padded" else _pack(group) for group in groups]


def require_fitting(examples: Sequence[Example], max_tokens: int) -> None:
    """Raise TrainingError for the longest example where no pass of `max_tokens` can hold it."""
    longest = max(examples, key=lambda each: len(each.ids), default=None)
    if longest is not None and len(longest.ids) > max_tokens:
        what = f"has {len(longest.ids)} tokens, more than the {max_tokens} of one batch"
        raise TrainingError(longest.origin, what, "raise max_tokens_per_batch or lower max_seq_len")


def _fits(group: Sequence[Example], example: Example, max_tokens: int, layout: Layout) -> bool:
    if layout == "single":
        return False
    if layout == "packed":
        return sum(len(each.ids) for each in group) + len(example.ids) <= max_tokens
    return (len(group) + 1) * len(group[0].ids) <= max_tokens  # the first is the longest


def _pack(group: Sequence[Example]) -> MicroBatch:
    ids = [token for example in group for token in example.ids]
    positions = [position for example in group for position in range(len(example.ids))]
    learn = [flag for example in group for flag in example.learn]
    rows = [index - 1 for index, flag in enumerate(learn) if flag]  # learn[0] of an example is never set: no row crosses examples
    targets = [ids[row + 1] for row in rows]
    return MicroBatch(
        torch.tensor([ids]),
        torch.tensor([positions]),
        None,
        torch.tensor(rows),
        torch.tensor(targets),
        len(ids),
        tuple(each.origin for each in group),
    )


def _pad(group: Sequence[Example]) -> MicroBatch:
    width = max(len(example.ids) for example in group)
    ids = torch.zeros(len(group), width, dtype=torch.long)
    mask = torch.zeros(len(group), width, dtype=torch.long)
    rows: list[int] = []
    targets: list[int] = []
    for line, example in enumerate(group):
        length = len(example.ids)
        ids[line, :length] = torch.tensor(example.ids)
        mask[line, :length] = 1
        found = [index - 1 for index, flag in enumerate(example.learn) if flag]
        rows.extend(line * width + row for row in found)
        targets.extend(example.ids[row + 1] for row in found)
    positions = torch.arange(width).expand(len(group), width).contiguous()
    tokens = int(mask.sum())
    return MicroBatch(ids, positions, mask, torch.tensor(rows), torch.tensor(targets), tokens, tuple(each.origin for each in group))
