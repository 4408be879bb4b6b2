"""Many small linear maps at once, each on the rows that are its own: what the experts of a mixture are.

Shape legend: E experts with weights W_e (m x n), kept as one stack of in x out matrices (E x n x m); S rows sorted by expert, of which
those of expert e end at ends[e]. One product of rows and stack is one kernel, whatever E is.

An expert's update is that of any other matrix (protection.py): dW_e = L_e C_e R_e^T. Its bases lie in stacks beside the weights, padded
with zero columns where experts have different numbers of directions, which adds nothing to any product.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from osft_engine.subspace.linear import UpdatedLinear

_ALIGNED = 16  # bytes: what the grouped kernel asks of the rows of its matrices
_COLUMNS = 8  # bases are padded to a multiple of this, so that their rows are aligned in any dtype


class _GroupedProduct(torch.autograd.Function):
    """y_s = x_s stack_e(s), (S x n, E x n x m) -> S x m. Frozen stacks get no gradient, and then x is not kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, stack: Tensor, ends: Tensor) -> Tensor:
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, stack, ends)
        return multiply(x, stack, ends)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, stack, ends = ctx.saved_tensors
        grad = grad_outputs[0].contiguous()
        grad_x = multiply(grad, stack.transpose(-2, -1), ends) if ctx.needs_input_grad[0] else None
        return grad_x, None if x is None else gather_outer(x, grad, ends), None


class _CoreGradients(torch.autograd.Function):
    """y itself, whose gradient g also becomes that of the cores: L_e^T g^T (x R_e), over the rows of each expert. `reduced` is x R."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, reduced: Tensor, left: Tensor | None, ends: Tensor, owners: Sequence[int], *cores: Tensor) -> Tensor:
        ctx.save_for_backward(reduced, left, ends)
        ctx.owners, ctx.shapes, ctx.dtype = owners, [core.shape for core in cores], cores[0].dtype
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        reduced, left, ends = ctx.saved_tensors
        grad = grad_outputs[0].contiguous()
        gathered = gather_outer(grad if left is None else multiply(grad, left, ends), reduced, ends)
        cores = (gathered[owner, :a, :r].to(ctx.dtype) for owner, (a, r) in zip(ctx.owners, ctx.shapes, strict=True))
        return (grad if ctx.needs_input_grad[0] else None, None, None, None, None, *cores)


def grouped_product(x: Tensor, stack: Tensor, ends: Tensor) -> Tensor:
    """Each row of x (S x n, sorted by expert) times its expert's matrix of the stack (E x n x m); ends: E, int32. With gradients."""
    result: Tensor = _GroupedProduct.apply(x, stack, ends)  # type: ignore[no-untyped-call]
    return result


def multiply(x: Tensor, stack: Tensor, ends: Tensor) -> Tensor:
    """`grouped_product` without gradients."""
    if _aligned(x) and _aligned(stack):
        return nn.functional.grouped_mm(x, stack, offs=ends)
    y = x.new_zeros(x.shape[0], stack.shape[2])
    for expert, start, end in _groups(ends):
        torch.mm(x[start:end], stack[expert], out=y[start:end])
    return y


def gather_outer(x: Tensor, y: Tensor, ends: Tensor) -> Tensor:
    """The sum of x_s y_s^T over each expert's rows: (S x a, S x b) -> E x a x b, zero where an expert has no row."""
    if _aligned(x) and _aligned(y):
        found = nn.functional.grouped_mm(x.T, y, offs=ends)
        empty = torch.diff(ends, prepend=ends.new_zeros(1)) == 0  # the kernel need not write what nothing adds to
        return found.masked_fill(empty[:, None, None], 0.0)
    found = x.new_zeros(ends.shape[0], x.shape[1], y.shape[1])
    for expert, start, end in _groups(ends):
        torch.mm(x[start:end].T, y[start:end], out=found[expert])
    return found


def _aligned(value: Tensor) -> bool:
    """Whether the kernel takes it: one dimension of stride 1, the other strides whole multiples of 16 bytes."""
    strides = sorted(value.stride()[-2:])
    others = (*value.stride()[:-2], strides[1])
    return strides[0] == 1 and value.data_ptr() % _ALIGNED == 0 and all(each * value.element_size() % _ALIGNED == 0 for each in others)


def _groups(ends: Tensor) -> Iterator[tuple[int, int, int]]:
    start = 0
    for expert, end in enumerate(ends.tolist()):
        if end > start:
            yield expert, start, end
        start = end


class GroupedUpdates:
    """The updates of a stack of experts, computed together. `layers`: the expert's UpdatedLinear, or None for one that stays as it is.

    weight: E x n x m, the frozen stack (a view of the model's own parameter). The layers' tensors become views of the stacks that are made
    here, so that each is on the device once: a layer that rebuilds its weight rebuilds it in the stack.
    """

    def __init__(self, weight: Tensor, layers: Sequence[UpdatedLinear | None]) -> None:
        self._weight, self._layers = weight.detach(), tuple(layers)
        trained = [layer for layer in layers if layer is not None]
        self._owners = [expert for expert, layer in enumerate(layers) if layer is not None]
        self._cores = [layer.core for layer in trained]
        self._dense = trained[0].effective is not None
        _, n, m = weight.shape
        self._right = self._stacked("right", n) if any(layer.right is not None for layer in trained) else None
        self._left = self._stacked("left", m) if any(layer.left is not None for layer in trained) else None
        self._right_without = self._stacked("right_without", n)
        self._left_without = self._stacked("left_without", m)
        self._effective = self._stacked_weights() if self._dense else self._weight

    def _stacked(self, part: str, size: int) -> Tensor | None:
        """E x size x columns of one kind of basis; the layers' own become views. None where no layer has one.

        Where only some layers have a basis of their allowed directions, the others' is the identity: all of theirs are allowed.
        """
        bases = {expert: getattr(self._layers[expert], part) for expert in self._owners}
        if not any(basis is not None for basis in bases.values()):
            return None
        if part in ("right", "left"):
            bases = {expert: torch.eye(size) if basis is None else basis for expert, basis in bases.items()}
        columns = max(basis.shape[1] for basis in bases.values() if basis is not None)
        stack = self._weight.new_zeros(len(self._layers), size, -(-columns // _COLUMNS) * _COLUMNS)
        for expert, basis in bases.items():
            if basis is None:
                continue
            view = stack[expert, :, : basis.shape[1]]
            view.copy_(basis)
            if getattr(self._layers[expert], part) is not None:
                setattr(self._layers[expert], part, nn.Parameter(view, requires_grad=False))
        return stack

    def _stacked_weights(self) -> Tensor:
        """The weights that the experts compute with: a copy of the stack, of which each trained layer's own becomes a view."""
        stack = self._weight.clone(memory_format=torch.preserve_format)
        for expert in self._owners:
            layer = self._layers[expert]
            assert layer is not None
            layer.effective = stack[expert].T
        return stack

    def __call__(self, x: Tensor, ends: Tensor) -> Tensor:
        """Rows sorted by expert (S x n) to S x m."""
        if not self._dense:
            return grouped_product(x, self._weight, ends) + self._beside(x, ends)
        y = grouped_product(x, self._effective, ends)
        if not torch.is_grad_enabled():
            return y
        with torch.no_grad():
            reduced = x.detach() if self._right is None else multiply(x, self._right, ends)
        result: Tensor = _CoreGradients.apply(y, reduced, self._left, ends, self._owners, *self._cores)  # type: ignore[no-untyped-call]
        return result

    def _beside(self, x: Tensor, ends: Tensor) -> Tensor:
        reduced = _without(x, self._right_without, ends) if self._right is None else grouped_product(x, self._right, ends)
        rows = self._weight.shape[2] if self._left is None else self._left.shape[2]
        update = grouped_product(reduced, self._stacked_cores(reduced.shape[1], rows, x.dtype), ends)
        return _without(update, self._left_without, ends) if self._left is None else grouped_product(update, self._left.mT, ends)

    def _stacked_cores(self, r: int, a: int, dtype: torch.dtype) -> Tensor:
        """C_e^T of every expert, E x r x a, zero for those that stay as they are. With gradients."""
        spread = []
        for layer in self._layers:
            core = self._weight.new_zeros(0, 0) if layer is None else layer.core.to(dtype)
            spread.append(nn.functional.pad(core, (0, r - core.shape[1], 0, a - core.shape[0])))
        return torch.stack(spread).mT


def _without(x: Tensor, Q: Tensor | None, ends: Tensor) -> Tensor:
    """x less its part along the orthonormal columns of each row's Q (E x n x k)."""
    return x if Q is None else x - grouped_product(grouped_product(x, Q, ends), Q.mT, ends)
