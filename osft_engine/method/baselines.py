"""The methods that osft is compared with: full fine-tuning, and PEFT's LoRA. Attachments like any other (attach.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from data_contracts.errors import ConfigError
from osft_engine.compute.distributed import whole_state
from osft_engine.config import TrainConfig
from osft_engine.method.attach import is_transposed
from osft_engine.method.experts import close_experts


class FullAttachment:
    """Full fine-tuning of every parameter: a baseline."""

    def __init__(self, model: Any) -> None:
        self.model = model
        model.requires_grad_(True)

    def trainable(self) -> dict[str, nn.Parameter]:
        return dict(self.model.named_parameters())

    def before_step(self) -> None:
        """Nothing to do: every gradient counts."""

    def after_step(self) -> None:
        """Nothing to do: the parameters are the model."""

    def dense_state(self) -> dict[str, Tensor]:
        return whole_state(self.model)

    def merge(self) -> Any:
        return self.model


class LoraAttachment:
    """PEFT's LoRA on the targets, merged into the dense weights at the end: a baseline."""

    def __init__(self, model: Any, targets: Sequence[str], config: TrainConfig) -> None:
        from peft import LoraConfig, get_peft_model

        alpha = config.lora_alpha if config.lora_alpha is not None else 2.0 * config.lora_rank
        fan_in_fan_out = is_transposed(model.get_submodule(next(iter(targets))))
        settings = LoraConfig(
            r=config.lora_rank,
            lora_alpha=alpha,
            target_modules=list(targets),
            lora_dropout=0.0,
            task_type="CAUSAL_LM",
            fan_in_fan_out=fan_in_fan_out,
        )
        self.model = get_peft_model(model, settings)
        self._merged: Any = None

    def trainable(self) -> dict[str, nn.Parameter]:
        return {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}

    def before_step(self) -> None:
        """Nothing to do: every gradient counts."""

    def after_step(self) -> None:
        """Nothing to do: PEFT runs the factors beside the weight."""

    def dense_state(self) -> dict[str, Tensor]:
        raise ConfigError(
            "lora", "has no dense weights before its adapter is merged", "train in one process and without checkpoint_at_epoch"
        )

    def merge(self) -> Any:
        if self._merged is None:
            self._merged = self.model.merge_and_unload()
            close_experts(self._merged)
        return self._merged
