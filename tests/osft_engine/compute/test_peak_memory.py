"""An allocation that failed has one name, whoever reports it; nothing else is taken for one."""

from __future__ import annotations

import pytest
import torch

from data_contracts.errors import TrainingError
from osft_engine.compute.peak_memory import is_out_of_memory, memory_explained


def _raised(error: BaseException) -> pytest.ExceptionInfo[BaseException]:
    with pytest.raises(type(error) if not is_out_of_memory(error) else TrainingError) as caught, memory_explained("step 3", "no room"):
        raise error
    return caught


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_memory_that_ran_out_says_where_and_what_to_lower(error: BaseException) -> None:
    caught = _raised(error)
    assert str(caught.value).startswith("step 3: no room (lower max_tokens_per_batch")
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), ValueError("of a row"), KeyboardInterrupt()])
def test_another_error_passes_unchanged(error: BaseException) -> None:
    assert _raised(error).value is error
