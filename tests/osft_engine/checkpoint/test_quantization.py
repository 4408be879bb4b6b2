"""The settings of a base in 4 bits, and the error where the library is missing."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
import torch

from data_contracts.errors import ConfigError
from osft_engine.checkpoint import quantization
from osft_engine.config import TrainConfig
from osft_engine.run import TrainRun
from osft_engine.train import train_candidate


def test_a_missing_library_is_one_clear_error(make_run: Callable[..., TrainRun], monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> ModuleType | None:
        return None

    monkeypatch.setattr(quantization, "find_spec", nothing)
    with pytest.raises(ConfigError, match=r"bitsandbytes is not installed.*skillstack\[quantize\]"):
        train_candidate(make_run(quantize="nf4"))


def test_a_base_that_is_not_quantised_needs_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantization, "find_spec", lambda name: None)
    assert quantization.quantization_settings(TrainConfig(), torch.float32) is None


def test_four_bits_are_nf4_and_compute_in_the_type_of_the_rest() -> None:
    pytest.importorskip("bitsandbytes")
    settings = quantization.quantization_settings(TrainConfig(quantize="nf4"), torch.bfloat16)
    assert (settings.load_in_4bit, settings.bnb_4bit_quant_type, settings.bnb_4bit_compute_dtype) == (True, "nf4", torch.bfloat16)
