"""Memory that runs out is one line with what to lower, wherever in a training it happens."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from data_contracts.errors import TrainingError

_WAY_OUT = "lower max_tokens_per_batch, turn on gradient_checkpointing, or lower unfreeze_rank_ratio"
_SIGNS = ("can't allocate memory", "CUDA out of memory", "CUDA error: out of memory", "not enough memory")


@contextmanager
def memory_explained(where: str, what: str = "out of memory") -> Iterator[None]:
    """Turn an allocation that failed into TrainingError; every other error passes unchanged."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(where, what, _WAY_OUT) from error


def device_memory(device: torch.device) -> int | None:
    """Bytes of memory that a device has in all, in use or not, so that every run finds the same; None where unknown."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    if device.type == "cpu" and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is an allocation that failed; torch has several types and texts for it."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(sign in str(error) for sign in _SIGNS)
