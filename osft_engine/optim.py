"""The optimiser and the step size: AdamW, or Muon for the matrices, on float32 parameters; its state as plain named tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from transformers import get_scheduler

from data_contracts.errors import ConfigError
from osft_engine.config import TrainConfig
from osft_engine.distributed import World, gathered_like, own_part, own_share_like


class NamedOptimizer:
    """One or two torch optimisers over named parameters, whose state is saved and restored without pickle.

    Of a sharded parameter this process moves its own part: AdamW treats every number alone, so that is exact and needs no exchange.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], config: TrainConfig) -> None:
        self._parameters = dict(parameters)
        self._parts = {name: own_part(value) for name, value in parameters.items()}
        if config.optimizer == "muon" and any(self._parts[name] is not value for name, value in parameters.items()):
            raise ConfigError("optimizer muon", "orthogonalises whole matrices, which are sharded here", "use adamw with several processes")
        matrices = [value for value in self._parts.values() if value.dim() == 2] if config.optimizer == "muon" else []
        chosen = {id(value) for value in matrices}
        others = [value for value in self._parts.values() if id(value) not in chosen]
        self._optimizers: list[torch.optim.Optimizer] = []
        rate, decay = config.peak_learning_rate, config.weight_decay
        if matrices:
            self._optimizers.append(torch.optim.Muon(matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"))
        if others:
            betas = (config.beta1, config.beta2)
            self._optimizers.append(torch.optim.AdamW(others, lr=rate, betas=betas, eps=config.eps, weight_decay=decay, fused=True))

    def clip(self, limit: float, world: World) -> float:
        """Scale the gradients of all processes to a norm of at most `limit`, and return their norm before that."""
        for name, part in self._parts.items():
            grad = self._parameters[name].grad
            part.grad = None if grad is None else own_part(grad)
        norm = torch.nn.utils.get_total_norm([part.grad for part in self._parts.values() if part.grad is not None])
        total = math.sqrt(world.sum(float(norm) ** 2))
        if math.isfinite(total):
            torch.nn.utils.clip_grads_with_norm_(self._parts.values(), limit, torch.tensor(total, device=norm.device))
        return total

    def step(self, learning_rate: float) -> None:
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        for parameter in self._parameters.values():
            parameter.grad = None

    def state(self) -> dict[str, Tensor]:
        """Every state tensor, whole, under <parameter>|<key>."""
        found: dict[str, Tensor] = {}
        for name, part in self._parts.items():
            for optimizer in self._optimizers:
                for key, value in optimizer.state.get(part, {}).items():
                    found[f"{name}|{key}"] = gathered_like(torch.as_tensor(value), self._parameters[name])
        return found

    def restore(self, state: Mapping[str, Tensor]) -> None:
        owner = {id(part): optimizer for optimizer in self._optimizers for group in optimizer.param_groups for part in group["params"]}
        for joined, value in state.items():
            name, _, key = joined.partition("|")
            part = self._parts[name]
            owner[id(part)].state[part][key] = own_share_like(value, self._parameters[name])


def step_sizes(config: TrainConfig, steps: int) -> Callable[[int], float]:
    """The step size of optimiser step 0, 1, ...: a pure function, so that a resumed run needs no scheduler state."""
    placeholder = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    warmup = min(config.warmup_steps, max(0, steps - 1))
    extra = {name: int(value) if float(value).is_integer() else value for name, value in config.lr_scheduler_kwargs.items()}
    try:
        schedule = get_scheduler(
            config.lr_scheduler, placeholder, num_warmup_steps=warmup, num_training_steps=steps, scheduler_specific_kwargs=extra
        )
    except (TypeError, ValueError) as error:
        raise ConfigError("lr_scheduler_kwargs", f"do not fit {config.lr_scheduler}: {error}", "see transformers' schedulers") from error
    factor = schedule.lr_lambdas[0]
    # transformers' warm-up starts at zero, which would waste the first step: it is read one step ahead.
    return lambda step: config.peak_learning_rate * float(factor(step + 1 if step < warmup else step))
