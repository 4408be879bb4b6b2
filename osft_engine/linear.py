"""The layer: a frozen linear map whose update is L C R^T, run at the cost of the bare map plus a little.

The effective weight is kept dense, so forward is one matrix product as in the base model. Backward needs only x R and g L: the
gradient of the core costs (r/n + r/m) of a dense one and the saved activation is T x r instead of T x n. The dense weight is
rebuilt from the untouched W after each optimiser step; adding small updates into a low-precision weight would lose them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from osft_engine.protection import AllowedUpdate


class _RestrictedLinear(torch.autograd.Function):
    """y = x W_eff^T + b with gradients for x and for the core C only."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, core: Tensor, weight: Tensor, bias: Tensor | None, left: Tensor | None, right: Tensor | None
    ) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        reduced = flat if right is None else flat @ right
        ctx.save_for_backward(reduced, weight, left)
        ctx.core_dtype = core.dtype
        y = torch.nn.functional.linear(flat, weight, bias)
        return y.reshape(*x.shape[:-1], weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None, None]:
        (grad,) = grad_outputs
        reduced, weight, left = ctx.saved_tensors
        flat = grad.reshape(-1, grad.shape[-1])
        grad_x = (flat @ weight).reshape(*grad.shape[:-1], weight.shape[1]) if ctx.needs_input_grad[0] else None
        seen = flat if left is None else flat @ left
        grad_core = (seen.T @ reduced).to(ctx.core_dtype) if ctx.needs_input_grad[1] else None
        return grad_x, grad_core, None, None, None, None


class UpdatedLinear(nn.Module):
    """Stands in for a linear layer while it is trained inside its allowed directions.

    weight: W, out x in, frozen and never written. core: C, float32, from zero. effective: W + L C R^T in W's dtype.
    """

    weight: Tensor
    effective: Tensor
    left: Tensor | None
    right: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, allowed: AllowedUpdate) -> None:
        super().__init__()
        self.allowed = allowed
        self.out_features, self.in_features = weight.shape
        self.bias = bias
        self.register_buffer("weight", weight.detach(), persistent=False)
        self.register_buffer("effective", weight.detach().clone(), persistent=False)
        self.register_buffer("left", _like(allowed.left, weight), persistent=False)
        self.register_buffer("right", _like(allowed.right, weight), persistent=False)
        self.core = nn.Parameter(torch.zeros(allowed.core_shape, dtype=torch.float32, device=weight.device))

    def forward(self, x: Tensor) -> Tensor:
        core: Tensor = self.core
        if self.allowed.block is not None:
            # The gradient of a projected dense update is the dense gradient, projected; the projection is its own transpose.
            core = _ProjectGradient.apply(core, self.allowed)  # type: ignore[no-untyped-call]
        result: Tensor = _RestrictedLinear.apply(  # type: ignore[no-untyped-call]
            x, core, self.effective, self.bias, self.left, self.right
        )
        return result

    @torch.no_grad()
    def rebuild(self) -> None:
        """Make the effective weight that of the current core. Call after each optimiser step."""
        self.effective.copy_(self.weight.to(torch.float32) + self.allowed.expand(self.core))

    def extra_repr(self) -> str:
        return f"in={self.in_features}, out={self.out_features}, core={tuple(self.core.shape)}, protected={self.allowed.protected}"


class _ProjectGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, core: Tensor, allowed: AllowedUpdate) -> Tensor:
        ctx.allowed = allowed
        return core.view_as(core)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        return ctx.allowed.expand(grad_outputs[0]), None


def _like(basis: Tensor | None, weight: Tensor) -> Tensor | None:
    return None if basis is None else basis.to(device=weight.device, dtype=weight.dtype)
