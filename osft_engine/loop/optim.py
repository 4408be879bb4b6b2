"""The optimiser and the step size: AdamW, or Muon for the matrices, on float32 numbers; its state as plain named tensors."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION, get_scheduler
from transformers.trainer_utils import SchedulerType

from data_contracts.errors import ConfigError
from osft_engine.compute.distributed import World, gathered_like, own_part, own_share_like
from osft_engine.config import TrainConfig

_OF_THE_RUN = {"optimizer", "num_warmup_steps", "num_training_steps", "last_epoch"}
"""Arguments of transformers' schedules that a run decides, so that no setting can."""
_EXACT = "float32"


class NamedOptimizer:
    """One or two torch optimisers over named parameters, whose state is saved and restored without pickle.

    Of a sharded parameter this process moves its own part: AdamW treats every number alone, so that is exact and needs no communication.
    A parameter in a shorter type (full fine-tuning and `train_other` in bfloat16) is moved in float32 and rounded after every step: most
    steps are smaller than half a unit in its last place, and would be lost one by one.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], config: TrainConfig) -> None:
        self._parameters = dict(parameters)
        own = {name: own_part(value) for name, value in parameters.items()}
        if config.optimizer == "muon" and any(own[name] is not value for name, value in parameters.items()):
            raise ConfigError("optimizer muon", "orthogonalises whole matrices, which are sharded here", "use adamw with several processes")
        self._rounded = {name: value for name, value in own.items() if value.dtype != torch.float32}
        self._parts = own | {name: nn.Parameter(value.detach().float()) for name, value in self._rounded.items()}
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
            part.grad = None if grad is None else own_part(grad).to(part.dtype)
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
        with torch.no_grad():
            for name, value in self._rounded.items():
                value.copy_(self._parts[name])

    def state(self) -> dict[str, Tensor]:
        """Every state tensor, unsharded, under <parameter>|<key>; the float32 numbers of a parameter in a shorter type as `_EXACT`."""
        found = {f"{name}|{_EXACT}": gathered_like(self._parts[name].detach(), self._parameters[name]) for name in self._rounded}
        for name, part in self._parts.items():
            for optimizer in self._optimizers:
                for key, value in optimizer.state.get(part, {}).items():
                    found[f"{name}|{key}"] = gathered_like(torch.as_tensor(value), self._parameters[name])
        return found

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """The state of `state()`, after the parameters themselves."""
        for name, rounded in self._rounded.items():
            exact = state.get(f"{name}|{_EXACT}")
            self._parts[name].copy_(rounded if exact is None else own_share_like(exact, self._parameters[name]))
        owner = {id(part): optimizer for optimizer in self._optimizers for group in optimizer.param_groups for part in group["params"]}
        for joined, value in state.items():
            name, _, key = joined.partition("|")
            if key == _EXACT:
                continue
            part = self._parts[name]
            owner[id(part)].state[part][key] = own_share_like(value, self._parameters[name])


def step_sizes(config: TrainConfig, steps: int) -> Callable[[int], float]:
    """The step size of optimiser step 0, 1, ...: a pure function, so that a resumed run needs no scheduler state.

    Raises ConfigError where lr_scheduler_kwargs do not fit the scheduler.
    """
    warmup = min(config.warmup_steps, max(0, steps - 1))
    factor = _factor(config, warmup, steps)
    # The warm-ups of transformers start at zero, which would waste the first step: they are read one step ahead. One schedule does not.
    ahead = 0 if config.lr_scheduler == "cosine_warmup_with_min_lr" else 1
    return lambda step: config.peak_learning_rate * float(factor(step + ahead if step < warmup else step))


def _factor(config: TrainConfig, warmup: int, steps: int) -> Callable[[int], float]:
    """transformers' schedule as a factor on the peak. Raises ConfigError for settings it does not have, or cannot compute with."""
    _require_known_settings(config)
    settings = {name: _whole(value) for name, value in config.lr_scheduler_kwargs.items()}
    # Some settings (min_lr, lr_end) are step sizes themselves; transformers divides them by the placeholder's.
    placeholder = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=config.peak_learning_rate)
    try:
        schedule = get_scheduler(
            config.lr_scheduler, placeholder, num_warmup_steps=warmup, num_training_steps=steps, scheduler_specific_kwargs=settings
        )
        factor: Callable[[int], float] = schedule.lr_lambdas[0]
        _require_steps(factor, config.peak_learning_rate, (0, warmup, max(0, steps - 1)))
        decay = settings.get("num_decay_steps", 0)
        if "num_stable_steps" not in settings and decay > steps - warmup:
            raise ValueError(f"num_decay_steps is {decay} and the run has {steps - warmup} steps after its warm-up")
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ConfigError("lr_scheduler_kwargs", f"do not fit {config.lr_scheduler}: {error}", "see transformers' schedulers") from error
    return factor


def _require_steps(factor: Callable[[int], float], peak: float, steps: Iterable[int]) -> None:
    """Compute some steps before the run: a setting of the wrong type or sign fails when the schedule is computed, not when it is made."""
    for step in steps:
        size = peak * float(factor(step))
        if not (math.isfinite(size) and size >= 0.0):
            raise ValueError(f"they make the size of step {step + 1} {size:g}")


def _whole(value: Any) -> Any:
    """2.0 as 2: some schedules need an integer, and a configuration file may hold either."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _require_known_settings(config: TrainConfig) -> None:
    """transformers itself ignores every setting of the constant schedules, and names a function, not a schedule, for the others."""
    schedule = TYPE_TO_SCHEDULER_FUNCTION[SchedulerType(config.lr_scheduler)]
    known = [name for name in inspect.signature(schedule).parameters if name not in _OF_THE_RUN]
    for name in config.lr_scheduler_kwargs:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            way_out = f"did you mean {near[0]}?" if near else f"it takes {', '.join(known) or 'none'}"
            raise ConfigError("lr_scheduler_kwargs", f"do not fit {config.lr_scheduler}: it has no setting {name!r}", way_out)
