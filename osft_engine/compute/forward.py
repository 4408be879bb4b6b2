"""A forward pass that computes logits only at positions that count in the loss, for any causal model, and the loss itself.

With a vocabulary of 50,000 the output head is a fifth of a small model's operations and most of its memory; prompts need no logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from osft_engine.data.batches import MicroBatch


@contextmanager
def head_sees_only(model: Any, rows: Tensor) -> Iterator[None]:
    """Within: the output head gets the flat positions `rows` of the hidden states, (B, T, d) -> (1, N, d)."""

    def select(_module: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden = inputs[0]
        return (hidden.reshape(-1, hidden.shape[-1])[rows].unsqueeze(0), *inputs[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()


def run_model(model: Any, batch: MicroBatch, *, rows: Tensor | None = None) -> Tensor:
    """Logits (N, vocabulary) at `rows` (by default the batch's own loss positions)."""
    kwargs: dict[str, Any] = {"input_ids": batch.input_ids, "position_ids": batch.position_ids, "use_cache": False}
    if batch.attention_mask is not None:
        kwargs["attention_mask"] = batch.attention_mask
    with head_sees_only(model, batch.rows if rows is None else rows):
        logits: Tensor = model(**kwargs).logits
    return logits[0]


def read_rows(values: Tensor, inputs: tuple[Any, ...], mask: Tensor | None) -> Tensor:
    """The rows (T x n) of a layer's input or output that belong to real tokens. inputs: what a hook is given; mask: the batch's, see below.

    A layer that reads only some of the tokens (an expert) is given their positions in the batch as its second input.
    """
    rows = values.reshape(-1, values.shape[-1])
    if mask is None:
        return rows
    return rows[mask if len(inputs) < 2 else mask[inputs[1]]]


@torch.no_grad()
def read_batches(model: Any, batches: Sequence[MicroBatch], hooks: Sequence[Any], before: Callable[[Tensor | None], None]) -> int:
    """Run batches through the model in eval mode for what the `hooks` (handles, removed at the end) observe. Returns the tokens read.

    `before` is called before each batch with its flat mask of real tokens (B T), or None where all are real.
    """
    was_training = model.training
    model.eval()
    try:
        for batch in batches:
            moved = batch.to(next(model.parameters()).device)
            before(None if moved.attention_mask is None else moved.attention_mask.reshape(-1).bool())
            run_model(model, moved, rows=moved.rows[:1])
    finally:
        for hook in hooks:
            hook.remove()
        model.train(was_training)
    return sum(batch.tokens for batch in batches)


def summed_loss(model: Any, batch: MicroBatch) -> Tensor:
    """Sum of the next-token losses in nats, in float32. Divide by the loss tokens of the global batch."""
    return torch.nn.functional.cross_entropy(run_model(model, batch).to(torch.float32), batch.targets, reduction="sum")
