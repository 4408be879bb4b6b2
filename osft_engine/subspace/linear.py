"""The layer: a frozen linear map whose update is L C R^T, run at the cost of the bare map plus a little.

dense   The effective weight is kept, so forward is one matrix product as in the base model. Backward needs only x R and g L: the gradient
        of the core costs (r/n + r/m) of a dense one, and the saved activation is T x r instead of T x n. The weight is rebuilt from the
        untouched W after each optimiser step; adding small updates into a low-precision weight would lose them.
side    y = W x + L (C (R^T x)); no second weight is kept: cheaper for few tokens per step, or where W is sharded.

Layers that read the same tensor through the same R (q, k, v; gate, up) compute x R once.
"""

from __future__ import annotations

import weakref
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from osft_engine.compute.distributed import whole
from osft_engine.subspace.protection import AllowedUpdate

Execution = Literal["dense", "side"]


def extra_operations(allowed: AllowedUpdate, tokens_per_step: float, float32_cost: float = 1.0) -> dict[Execution, float]:
    """Multiplications per optimiser step of `tokens_per_step` tokens that each execution adds to those of the frozen layer.

    Rebuilding a weight and restricting a gradient are done in float32, once a step; there one counts as `float32_cost` of the others.
    """
    (m, n), (a, r), T = allowed.shape, allowed.core_shape, tokens_per_step
    project_in = 0.0 if allowed.right is None else float(n * r)
    project_out = 0.0 if allowed.left is None else float(m * a)
    implicit_in = 0.0 if allowed.right_without is None else 2.0 * n * allowed.right_without.shape[1]
    implicit_out = 0.0 if allowed.left_without is None else 2.0 * m * allowed.left_without.shape[1]
    core = float(a * r)
    restrict = a * implicit_in + r * implicit_out  # of the gradient, and again of the update
    rebuild = m * n * (r if allowed.right is not None else a) + (m * a * r if allowed.left is not None and allowed.right is not None else 0)
    return {
        "dense": T * (project_in + project_out + core) + float32_cost * (rebuild + 2 * restrict),
        "side": T * (2 * (project_in + project_out + implicit_in + implicit_out) + 3 * core),
    }


def choose_execution(allowed: AllowedUpdate, tokens_per_step: float, float32_cost: float = 1.0) -> Execution:
    """The cheaper one. An update without thin factors is always dense: beside the weight it would cost a second layer."""
    if not may_run_beside(allowed):
        return "dense"
    cost = extra_operations(allowed, tokens_per_step, float32_cost)
    return "side" if cost["side"] < cost["dense"] else "dense"


def may_run_beside(allowed: AllowedUpdate) -> bool:
    return allowed.block is None and (allowed.left is not None or allowed.right is not None)


def float32_cost(weight: Tensor) -> float:
    """How many multiplications in the weight's own dtype take as long as one in float32 on its device. On a GPU, 16 for 16 bits: NVIDIA's
    A100 does 312 TFLOPS against 19.5, its H100 and H200 do 990 against 67."""
    return 16.0 if weight.is_cuda and weight.element_size() == 2 else 1.0


def training_bytes(allowed: AllowedUpdate, element_size: int, execution: Execution) -> int:
    """Memory of one trained layer without its frozen weight, whose numbers take `element_size` bytes: core, gradient and two moments in
    float32, the bases in the layer's dtype and, dense, a second weight and the bases in float32 for rebuilding it."""
    (m, n), (a, r) = allowed.shape, allowed.core_shape
    bases = sum(part.numel() for part in allowed.parts.values())
    return 16 * a * r + element_size * bases + ((element_size * m * n + 4 * bases) if execution == "dense" else 0)


class SharedProjection:
    """x R for the layers that share R, computed by the first of them that sees x. Its references are weak: x is freed with its layer."""

    def __init__(self) -> None:
        self._seen: weakref.ref[Tensor] | None = None
        self._grad = False
        self._value: weakref.ref[Tensor] | None = None

    def project(self, x: Tensor, right: Tensor) -> Tensor:
        value = self._value() if self._value is not None else None
        if value is not None and self._seen is not None and self._seen() is x and self._grad == torch.is_grad_enabled():
            return value
        value = x @ right
        self._seen, self._value, self._grad = weakref.ref(x), weakref.ref(value), torch.is_grad_enabled()
        return value


class _RestrictedLinear(torch.autograd.Function):
    """y = x W_eff^T + b with gradients for x and for the core C only. `reduced` is x R, without gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, core: Tensor, weight: Tensor, bias: Tensor | None, left: Tensor | None, reduced: Tensor) -> Tensor:
        ctx.save_for_backward(reduced, weight, left)
        ctx.core_dtype = core.dtype
        return linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None, None]:
        (grad,) = grad_outputs
        reduced, weight, left = ctx.saved_tensors
        grad_x = grad @ weight if ctx.needs_input_grad[0] else None
        grad_core = None
        if ctx.needs_input_grad[1]:
            flat = grad.reshape(-1, grad.shape[-1])
            seen = flat if left is None else flat @ left
            grad_core = (seen.T @ reduced.reshape(-1, reduced.shape[-1])).to(ctx.core_dtype)
        return grad_x, grad_core, None, None, None, None


class UpdatedLinear(nn.Module):
    """Stands in for a linear layer while it is trained inside its allowed directions.

    weight: W, out x in, frozen and never written. core: C, float32, from zero. effective (dense only): W + L C R^T in W's dtype.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        allowed: AllowedUpdate,
        execution: Execution = "dense",
        shared: SharedProjection | None = None,
        right: nn.Parameter | None = None,
    ) -> None:
        super().__init__()
        self.allowed, self.execution = allowed, execution
        self.out_features, self.in_features = weight.shape
        self.bias = bias
        self.weight = _frozen(weight, weight)
        self.left = None if allowed.left is None else _frozen(allowed.left, weight)
        self.right = right if right is not None or allowed.right is None else _frozen(allowed.right, weight)
        beside = execution == "side"  # run dense, the directions left out are needed once per step only, and stay in `allowed`
        self.left_without = _frozen(allowed.left_without, weight) if beside and allowed.left_without is not None else None
        self.right_without = _frozen(allowed.right_without, weight) if beside and allowed.right_without is not None else None
        self.projection = shared if shared is not None else SharedProjection()
        self.core = nn.Parameter(torch.zeros(allowed.core_shape, dtype=torch.float32, device=weight.device))
        self.effective = weight.detach().clone() if execution == "dense" else None

    def forward(self, x: Tensor, positions: Tensor | None = None) -> Tensor:
        """positions: of the rows in the batch, where the layer reads some of them only; for hooks (compute/forward.py)."""
        if self.execution == "side":
            return self._beside(x)
        if not torch.is_grad_enabled():
            return linear(x, self.effective, self.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            reduced = x.detach() if self.right is None else self.projection.project(x, self.right)
        # Two-dimensional inside, so that the result is no view: autograd forbids to change a function's view in place, as Falcon does.
        result: Tensor = _RestrictedLinear.apply(  # type: ignore[no-untyped-call]
            x.reshape(-1, x.shape[-1]), self.core, self.effective, self.bias, self.left, reduced
        )
        return result.view(*x.shape[:-1], result.shape[-1])

    def _beside(self, x: Tensor) -> Tensor:
        reduced = _without(x, self.right_without) if self.right is None else self.projection.project(x, self.right)
        update = linear(reduced, self.core.to(x.dtype))
        update = _without(update, self.left_without) if self.left is None else linear(update, self.left)
        return linear(x, self.weight, self.bias) + update

    def dense(self) -> Tensor:
        """The weight that the layer computes with now (out x in)."""
        return self.effective if self.effective is not None else self.rebuilt()

    @torch.no_grad()
    def rebuilt(self) -> Tensor:
        """W + L C R^T in W's dtype, from the core as it is now."""
        weight, core = whole(self.weight), whole(self.core)
        return (weight.to(torch.float32) + self.allowed.expand(core)).to(weight.dtype)

    @torch.no_grad()
    def restrict_gradient(self) -> None:
        """Make the core's gradient that of the update. Call before each optimiser step; beside, autograd has done it."""
        if self.effective is not None and self.allowed.projects and self.core.grad is not None:
            self.core.grad.copy_(self.allowed.project(self.core.grad))

    @torch.no_grad()
    def rebuild(self) -> None:
        """Make the effective weight that of the current core. Call after each optimiser step; nothing to do beside."""
        if self.effective is not None:
            self.effective.copy_(self.rebuilt())

    def extra_repr(self) -> str:
        size = f"in={self.in_features}, out={self.out_features}, core={tuple(self.core.shape)}"
        return f"{size}, protected={self.allowed.protected}, {self.execution}"


def run_beside(x: Tensor, core: Tensor, shared: SharedProjection, right: Tensor) -> Tensor:
    """C R^T x, for layers whose every output may move."""
    return linear(shared.project(x, right), core.to(x.dtype))


def _without(x: Tensor, Q: Tensor | None) -> Tensor:
    """x (... x n) less its part along the orthonormal columns of Q (n x k)."""
    return x if Q is None else x - linear(x @ Q, Q)


def _frozen(value: Tensor, like: Tensor) -> nn.Parameter:
    """A parameter without gradient, so that sharding treats it as one."""
    return nn.Parameter(value.detach().to(device=like.device, dtype=like.dtype), requires_grad=False)
