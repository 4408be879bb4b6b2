"""Training over a base held in 4 bits (bitsandbytes NF4): the update runs beside it and is added to the unquantised base at the end.

The frozen weights are held in four bits, the core is trained in float32, and nothing is quantised twice: the candidate is the champion as
it is on disk plus the update. Only `protect: activations` is possible: its directions come from the layers' inputs, not from the exact
weights, which are not in memory. Source: QLoRA (Dettmers et al. 2023, arXiv:2305.14314), with the update restricted to the free directions.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data_contracts.errors import ConfigError
from osft_engine.checkpoint.update import update_factors
from osft_engine.config import TrainConfig
from osft_engine.method.attach import OsftAttachment, is_transposed, weight_of
from osft_engine.method.experts import close_experts, open_experts
from osft_engine.subspace.linear import SharedProjection, UpdatedLinear, run_beside
from osft_engine.subspace.protection import AllowedUpdate, LayerUpdate


class QuantizedLinear(nn.Module):
    """y = Q(x) + C R^T x beside a frozen 4-bit layer Q. Has what an UpdatedLinear has but a dense weight."""

    def __init__(self, inner: nn.Module, allowed: AllowedUpdate, shared: SharedProjection, right: nn.Parameter) -> None:
        super().__init__()
        self.inner, self.allowed, self.projection, self.right = inner, allowed, shared, right
        self.out_features, self.in_features = allowed.shape
        self.core = nn.Parameter(torch.zeros(allowed.core_shape, dtype=torch.float32, device=right.device))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x)
        return y + run_beside(x, self.core, self.projection, self.right)

    def extra_repr(self) -> str:
        return f"core={tuple(self.core.shape)}, protected={self.allowed.protected}, 4-bit"


class QuantizedAttachment(OsftAttachment):
    """Targets replaced by QuantizedLinear. `merge` gives the dense model of `base`, unquantised, with the update added."""

    def __init__(self, model: Any, targets: Mapping[str, nn.Module], allowed: Mapping[str, AllowedUpdate], base: Path, config: TrainConfig):
        self.model, self._base, self._config = model, base, config
        self._originals, self._other_names = dict(targets), ()
        model.requires_grad_(False)
        self.layers: dict[str, UpdatedLinear] = {}
        shared: dict[int, tuple[SharedProjection, nn.Parameter]] = {}
        for name, module in targets.items():
            basis = allowed[name].right
            if basis is None:
                raise ConfigError("train.unfreeze_rank_ratio", "is 1, which leaves no thin update beside a 4-bit base", "lower it")
            if id(basis) not in shared:
                device = next(module.parameters()).device
                right = nn.Parameter(basis.to(device=device, dtype=model.dtype), requires_grad=False)
                shared[id(basis)] = (SharedProjection(), right)
            layer: Any = QuantizedLinear(module, allowed[name], *shared[id(basis)])
            self.layers[name] = layer
            self.replace(name, layer)

    def before_step(self) -> None:
        """Nothing to do: autograd through C R^T gives the core's own gradient."""

    def after_step(self) -> None:
        """Nothing to do: the update runs beside the frozen layer."""

    def leaks(self) -> dict[str, float]:
        return {name: self.layers[name].allowed.leak(update.dense()) for name, update in update_factors(self.layers).items()}

    def dense_state(self) -> dict[str, Tensor]:
        return dict(self.merge().state_dict())

    def merge(self) -> Any:
        from osft_engine.checkpoint.read import load_model

        dense = load_model(self._base, self._config.model_copy(update={"quantize": "none"}))
        add_update(dense, update_factors(self.layers))
        return dense


@torch.no_grad()
def add_update(model: Any, update: Mapping[str, LayerUpdate]) -> None:
    """Add dW to the dense weights of a model, in place, each layer's sum taken in float32."""
    open_experts(model)
    for name, layer in update.items():
        module = model.get_submodule(name)
        changed = weight_of(module).to(torch.float32) + layer.dense().to(module.weight.device)
        module.weight.copy_((changed.T if is_transposed(module) else changed).to(module.weight.dtype))
    close_experts(model)
