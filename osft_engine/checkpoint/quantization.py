"""The settings with which transformers loads a base in 4 bits."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch

from data_contracts.errors import CheckpointError, ConfigError
from osft_engine.config import TrainConfig


def quantization_settings(config: TrainConfig, dtype: torch.dtype) -> Any:
    """transformers' settings of an NF4 base, or None. Raises ConfigError where bitsandbytes is missing."""
    if config.quantize == "none":
        return None
    if find_spec("bitsandbytes") is None:
        raise ConfigError("train.quantize", "is nf4, and bitsandbytes is not installed", "pip install 'skillstack[quantize]', or use none")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype)


def require_whole_blocks(model: Any) -> None:
    """Raise CheckpointError where 4-bit weights on a CPU have rows that are no multiple of a block.

    bitsandbytes 0.50.2 quantises such weights rightly and reads them wrongly on CPUs with AVX-512: rows of 32, 48 and 96 numbers came back
    with errors of up to 1.7, where the weights have a standard deviation of 1 and half a step of NF4 is below 0.4.
    """
    for name, parameter in model.named_parameters():
        state = getattr(parameter, "quant_state", None)
        if state is not None and parameter.device.type == "cpu" and state.shape[-1] % state.blocksize:
            what = f"has rows of {state.shape[-1]} numbers, which bitsandbytes reads wrongly on a CPU (no multiple of {state.blocksize})"
            raise CheckpointError(name, what, "train with train.quantize: none, or on a GPU")
