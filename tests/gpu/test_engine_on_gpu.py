"""The correctness half of engine_on_gpu.py, for `pytest -m gpu`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_dense_and_side_agree_and_the_leak_is_rounding() -> None:
    spec = importlib.util.spec_from_file_location("engine_on_gpu", Path(__file__).with_name("engine_on_gpu.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = module.check_correctness(torch.device("cuda"))
    assert found["bf16_leak"] <= 1.01 * found["bf16_rounding"]
