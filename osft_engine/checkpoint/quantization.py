"""The settings with which transformers loads a base in 4 bits."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch

from data_contracts.errors import ConfigError
from osft_engine.config import TrainConfig


def quantization_settings(config: TrainConfig, dtype: torch.dtype) -> Any:
    """transformers' settings of an NF4 base, or None. Raises ConfigError where bitsandbytes is missing."""
    if config.quantize == "none":
        return None
    if find_spec("bitsandbytes") is None:
        raise ConfigError("train.quantize", "is nf4, and bitsandbytes is not installed", "pip install 'skillstack[quantize]', or use none")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype)
