"""The optimiser and the step size: AdamW, or Muon for the matrices, on float32 parameters; its state as plain named tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from transformers import get_scheduler

from osft_engine.config import TrainConfig
from osft_engine.distributed import sharded_like, whole


class NamedOptimizer:
    """One or two torch optimisers over named parameters, whose state is saved and restored without pickle."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], config: TrainConfig) -> None:
        self._parameters = dict(parameters)
        matrices = [value for value in parameters.values() if value.dim() == 2] if config.optimizer == "muon" else []
        chosen = {id(value) for value in matrices}
        others = [value for value in parameters.values() if id(value) not in chosen]
        self._parts: list[torch.optim.Optimizer] = []
        rate, decay = config.peak_learning_rate, config.weight_decay
        if matrices:
            self._parts.append(torch.optim.Muon(matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"))
        if others:
            betas = (config.beta1, config.beta2)
            self._parts.append(torch.optim.AdamW(others, lr=rate, betas=betas, eps=config.eps, weight_decay=decay, fused=True))

    def step(self, learning_rate: float) -> None:
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = learning_rate
            part.step()
            part.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Every state tensor under <parameter>|<key>."""
        found: dict[str, Tensor] = {}
        for name, parameter in self._parameters.items():
            for part in self._parts:
                for key, value in part.state.get(parameter, {}).items():
                    found[f"{name}|{key}"] = whole(torch.as_tensor(value))
        return found

    def restore(self, state: Mapping[str, Tensor]) -> None:
        owner = {id(parameter): part for part in self._parts for group in part.param_groups for parameter in group["params"]}
        for joined, value in state.items():
            name, _, key = joined.partition("|")
            parameter = self._parameters[name]
            owner[id(parameter)].state[parameter][key] = sharded_like(value, parameter)


def step_sizes(config: TrainConfig, steps: int) -> Callable[[int], float]:
    """The step size of optimiser step 0, 1, ...: a pure function, so that a resumed run needs no scheduler state."""
    placeholder = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    warmup = min(config.warmup_steps, max(0, steps - 1))
    schedule = get_scheduler(config.lr_scheduler, placeholder, num_warmup_steps=warmup, num_training_steps=steps)
    factor = schedule.lr_lambdas[0]
    # transformers' warm-up starts at zero, which would waste the first step: it is read one step ahead.
    return lambda step: config.peak_learning_rate * float(factor(step + 1 if step < warmup else step))
