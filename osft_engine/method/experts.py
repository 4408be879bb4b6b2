"""The experts of a mixture as matrices: transformers keeps those of one layer in fused 3-D parameters, training needs each on its own.

`open_experts` puts OpenExperts in the place of every such module. It computes the same, holds the same parameters under the same names (so
that it is saved as it was), and shows each expert's matrices as linear layers, `experts.3.down_proj`, whose weights are views of the fused
ones. What is done to a linear layer (measured, replaced, read) is then done to an expert in the same way.

Which experts a token goes to is the router's choice, and routers stay as they are. An expert is handed, beside the tokens that reached it,
their positions in the batch, so that padding is distinguished from text (compute/forward.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from osft_engine.subspace.grouped import GroupedUpdates, grouped_product
from osft_engine.subspace.linear import UpdatedLinear

_MATRICES = ("gate_up_proj", "up_proj", "down_proj")
_SETTINGS = ("has_gate", "has_bias", "is_transposed", "num_experts")  # which transformers gives every module that its kernels can run


class ExpertLinear(nn.Linear):
    """One matrix of one expert: a linear layer whose weight (out x in) and bias are views of the fused parameters.

    expected_share: of the tokens, how many reach it where all experts are chosen alike.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, expected_share: float) -> None:
        nn.Module.__init__(self)  # no parameters of its own
        self.out_features, self.in_features = weight.shape
        self.weight, self.bias = weight, bias  # type: ignore[assignment]
        self.expected_share = expected_share

    def forward(self, x: Tensor, positions: Tensor | None = None) -> Tensor:
        return linear(x, self.weight, self.bias)


@dataclass(frozen=True)
class _Routed:
    """The pairs of token and expert, sorted by expert. order: of the pairs; rows: each one's token; ends: of each expert, int32."""

    order: Tensor
    rows: Tensor
    ends: Tensor

    @classmethod
    def of(cls, chosen: Tensor, experts: int) -> _Routed:
        flat, order = torch.sort(chosen.reshape(-1), stable=True)
        ends = torch.searchsorted(flat, torch.arange(experts, device=flat.device, dtype=flat.dtype), right=True).to(torch.int32)
        return cls(order, order // chosen.shape[-1], ends)


class OpenExperts(nn.Module):
    """Stands in for a module of fused experts; computes what it computes, with the experts' matrices as layers of their own."""

    def __init__(self, fused: Any, top_k: int) -> None:
        super().__init__()
        self._fused = (fused,)  # a tuple, so that its parameters are not registered twice
        for name, parameter in fused.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        for name, child in fused.named_children():
            self.add_module(name, child)
        self.matrices = [name for name in _MATRICES if hasattr(fused, name)]
        self.together: dict[str, GroupedUpdates] = {}
        for number in range(fused.num_experts):
            expert = nn.Module()
            for name in self.matrices:
                expert.add_module(name, ExpertLinear(*self._views(name, number), top_k / fused.num_experts))
            self.add_module(str(number), expert)

    @property
    def fused(self) -> Any:
        """The module whose place it takes."""
        return self._fused[0]

    def _views(self, matrix: str, number: int) -> tuple[Tensor, Tensor | None]:
        weight = getattr(self.fused, matrix).detach()[number]
        bias = getattr(self.fused, f"{matrix}_bias").detach()[number] if self.fused.has_bias else None
        return weight.T if self.fused.is_transposed else weight, bias

    def _layers(self, matrix: str) -> list[nn.Module]:
        return [cast(nn.Module, getattr(self.get_submodule(str(number)), matrix)) for number in range(self.fused.num_experts)]

    def _stack(self, matrix: str) -> Tensor:
        """E x in x out."""
        weight = cast(Tensor, getattr(self, matrix))
        return weight if self.fused.is_transposed else weight.mT

    def whole(self, matrix: str) -> Tensor:
        """The fused parameter as the layers compute with it now, in memory of its own."""
        found: Tensor = getattr(self, matrix).detach().clone()
        for number, layer in enumerate(self._layers(matrix)):
            if isinstance(layer, UpdatedLinear):
                found[number].copy_(layer.dense().T if self.fused.is_transposed else layer.dense())
        return found

    def join(self) -> None:
        """Compute the updates of layers that have been replaced by UpdatedLinear together. Call once all of them are."""
        for matrix in self.matrices:
            layers = self._layers(matrix)
            if any(isinstance(layer, UpdatedLinear) for layer in layers):
                self.together[matrix] = GroupedUpdates(
                    self._stack(matrix), [layer if isinstance(layer, UpdatedLinear) else None for layer in layers]
                )

    def forward(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        """hidden_states: T x d; top_k_index, top_k_weights: T x k, the experts of each token and what their outputs count."""
        routed = _Routed.of(top_k_index, self.fused.num_experts)
        y = hidden_states[routed.rows]
        for matrix in self.matrices:
            y = self._project(matrix, y, routed)
            if matrix != "down_proj":
                y = self.fused._apply_gate(y) if self.fused.has_gate else self.fused.act_fn(y)
        if getattr(self.fused, "has_post_expert_norm", False):
            y = self.fused.post_expert_norm(y)
        weighted = y * top_k_weights.reshape(-1)[routed.order].unsqueeze(-1)
        back = torch.empty_like(routed.order).index_copy_(0, routed.order, torch.arange(len(routed.order), device=routed.order.device))
        return weighted[back].view(*top_k_index.shape, -1).sum(dim=1).to(hidden_states.dtype)

    def _project(self, matrix: str, x: Tensor, routed: _Routed) -> Tensor:
        layers = self._layers(matrix)
        if any(_must_be_called(layer) for layer in layers):
            starts = [0, *routed.ends.tolist()]
            groups = zip(layers, starts[:-1], starts[1:], strict=True)
            return torch.cat([layer(x[start:end], routed.rows[start:end]) for layer, start, end in groups])
        together = self.together.get(matrix)
        y = grouped_product(x, self._stack(matrix), routed.ends) if together is None else together(x, routed.ends)
        if not self.fused.has_bias:
            return y
        counts = torch.diff(routed.ends, prepend=routed.ends.new_zeros(1))
        biases: Tensor = getattr(self, f"{matrix}_bias")
        return y + biases.repeat_interleave(counts, dim=0, output_size=len(y))


def _must_be_called(layer: nn.Module) -> bool:
    """Whether somebody listens to it, asks for the gradient of its weight, or has put something else in its place (PEFT)."""
    if not isinstance(layer, ExpertLinear | UpdatedLinear):
        return True
    return bool(layer._forward_pre_hooks or layer._forward_hooks or layer.weight.requires_grad)


def open_experts(model: nn.Module) -> None:
    """Put OpenExperts in the place of every module of fused experts whose outputs it repeats. Does nothing twice."""
    repeats: dict[type[nn.Module], bool] = {}  # one of a kind is tried
    for name, module in list(model.named_modules()):
        if is_fused(module):
            opened = OpenExperts(module, _experts_per_token(model) or 1)
            if type(module) not in repeats:
                repeats[type(module)] = _repeats(module, opened)
            if repeats[type(module)]:
                model.set_submodule(name, opened)


def close_experts(model: nn.Module) -> None:
    """Put the modules back whose places OpenExperts took. The fused parameters hold what was written to the experts' weights."""
    for name, module in list(opened_experts(model)):
        model.set_submodule(name, module.fused)


def opened_experts(model: nn.Module) -> Iterator[tuple[str, OpenExperts]]:
    return ((name, module) for name, module in model.named_modules() if isinstance(module, OpenExperts))


def is_fused(module: nn.Module) -> bool:
    """Whether it is one of transformers' modules of fused experts, in the form that all its kernels read."""
    if isinstance(module, OpenExperts) or any(not hasattr(module, name) for name in (*_SETTINGS, "down_proj", "_apply_gate")):
        return False
    parameters = dict(module.named_parameters(recurse=False))
    matrices = [name for name in _MATRICES if name in parameters]
    expected = {*matrices, *(f"{name}_bias" for name in matrices if module.has_bias)}
    return len(matrices) == 2 and parameters.keys() == expected and all(parameters[name].dim() == 3 for name in matrices)


@torch.no_grad()
def _repeats(fused: Any, opened: OpenExperts) -> bool:
    """Whether both have the same outputs on a trial: a model's own code may read its experts otherwise."""
    weight = fused.down_proj
    if weight.is_meta:
        return True
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, fused.down_proj.shape[2 if fused.is_transposed else 1], generator=generator).to(weight)
    chosen = torch.arange(6, device=weight.device).reshape(3, 2) % fused.num_experts
    shares = torch.rand(3, 2, generator=generator).to(weight)
    try:
        wanted, found = fused(x, chosen, shares).float(), opened(x, chosen, shares).float()
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError):
        return False
    return float((found - wanted).norm()) <= (1e-3 if weight.dtype == torch.float32 else 5e-2) * float(wanted.norm())


def _experts_per_token(model: nn.Module) -> int | None:
    config = getattr(model, "config", None)
    names = ("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_k", "moe_top_k")
    found = (getattr(config.get_text_config(), name, None) for name in names) if config is not None else ()
    return next((value for value in found if isinstance(value, int) and value > 0), None)
