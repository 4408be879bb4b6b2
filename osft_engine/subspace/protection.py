"""Which directions an update may change, for each of the three protections.

weights         U_k^T dW = 0 and dW V_k = 0   OSFT as published (Nayak et al. 2025, arXiv:2504.07097), as its reference implementations do
                                              it, enforced on the update itself
weights_block   U_k^T dW V_k = 0              the formula printed in that paper: G - U_k (U_k^T G V_k) V_k^T
activations     dW R_k = 0                    R_k: leading eigenvectors of the second moment of the layer's inputs on everything learned so
                                              far, the idea of GPM (Saha et al. 2021, arXiv:2103.09762) and Adam-NSCL (Wang et al. 2021,
                                              arXiv:2103.07113), on the update instead of on gradients and without stored examples

An allowed update is dW = L C R^T with orthonormal L (m x a) and R (n x r); None stands for the identity. Where one side of `weights` has
more free directions than protected ones, its basis is kept implicitly as I - Q Q^T with Q the protected directions: a tall basis would
cost operations per token, the projection costs them once per step. `weights_block` has no product form: its update is a dense D minus its
protected block.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from data_contracts.errors import TrainingError
from osft_engine.subspace.algebra import (
    Solve,
    eigen,
    joined_directions,
    outside_share,
    singular_subspaces,
    weakest_directions,
    without_directions,
)
from osft_engine.subspace.counts import trainable_count


@dataclass(frozen=True)
class LayerUpdate:
    """dW (m x n) of one layer: left (m x r) times right^T (n x r), or `left` alone where the update has no thin factors."""

    left: Tensor
    right: Tensor | None

    def dense(self) -> Tensor:
        return self.left if self.right is None else self.left @ self.right.T


@dataclass(frozen=True)
class AllowedUpdate:
    """The directions of one weight (m x n) that training may move. Bases are float32.

    left_without (m x k), right_without (n x k): orthonormal directions that a side without a basis of its own leaves out.
    """

    shape: tuple[int, int]
    left: Tensor | None
    right: Tensor | None
    block: tuple[Tensor, Tensor] | None = None
    protected: int = 0
    trainable: int = 0
    left_without: Tensor | None = None
    right_without: Tensor | None = None

    @property
    def core_shape(self) -> tuple[int, int]:
        """Shape of C, what is trained."""
        m, n = self.shape
        return (m if self.left is None else self.left.shape[1], n if self.right is None else self.right.shape[1])

    @property
    def parts(self) -> dict[str, Tensor]:
        """Every tensor that it holds, by name."""
        block = self.block or (None, None)
        named = {"left": self.left, "right": self.right, "block_out": block[0], "block_in": block[1]}
        named |= {"left_without": self.left_without, "right_without": self.right_without}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    @classmethod
    def of_parts(cls, shape: tuple[int, int], parts: Mapping[str, Tensor], protected: int, trainable: int) -> AllowedUpdate:
        """The inverse of `parts`."""
        block = (parts["block_out"], parts["block_in"]) if "block_out" in parts else None
        without = (parts.get("left_without"), parts.get("right_without"))
        return cls(shape, parts.get("left"), parts.get("right"), block, protected, trainable, *without)

    @property
    def device(self) -> torch.device:
        """Where the bases lie; the CPU where there are none."""
        return next((tensor.device for tensor in self.parts.values()), torch.device("cpu"))

    @property
    def projects(self) -> bool:
        """Whether a core may leave the allowed directions, so that its gradient and its update are projected."""
        return any(part is not None for part in (self.block, self.left_without, self.right_without))

    def to(self, device: torch.device) -> AllowedUpdate:
        """The same directions on another device."""
        parts = {name: tensor.to(device) for name, tensor in self.parts.items()}
        return AllowedUpdate.of_parts(self.shape, parts, self.protected, self.trainable)

    def project(self, core: Tensor) -> Tensor:
        """The part of a core, or of its gradient, that counts. Its own transpose, like any orthogonal projection."""
        if self.block is not None:
            U, V = (basis.to(core) for basis in self.block)
            return core - U @ ((U.T @ core @ V) @ V.T)
        if self.left_without is not None:
            U = self.left_without.to(core)
            core = core - U @ (U.T @ core)
        if self.right_without is not None:
            V = self.right_without.to(core)
            core = core - (core @ V) @ V.T
        return core

    def factors(self, core: Tensor) -> LayerUpdate:
        """The exact update of a core C, in the core's dtype, with an inner dimension as small as a thin side allows."""
        core = self.project(core)
        left = None if self.left is None else self.left.to(core)
        if self.right is not None:
            return LayerUpdate(core if left is None else left @ core, self.right.to(core))
        return LayerUpdate(core, None) if left is None else LayerUpdate(left, core.T.contiguous())

    def expand(self, core: Tensor) -> Tensor:
        """dW (m x n) of a core C, in the core's dtype."""
        return self.factors(core).dense()

    def leak(self, dW: Tensor) -> float:
        """Part of an update that lies where it must not, relative to its size."""
        dW = dW.to(torch.float64)
        size = float(dW.norm())
        if size == 0.0:
            return 0.0
        leaks = [outside_share(dW, self.left, self.right)]
        if self.block is not None:
            U, V = (basis.to(dW) for basis in self.block)
            leaks.append(float((U.T @ dW @ V).norm()) / size)
        if self.left_without is not None:
            leaks.append(float((self.left_without.to(dW).T @ dW).norm()) / size)
        if self.right_without is not None:
            leaks.append(float((dW @ self.right_without.to(dW)).norm()) / size)
        return max(leaks)


def protect_weights(
    W: Tensor, ratio: float, *, compact: bool = False, written: tuple[Tensor, Tensor] | None = None, solve: Solve = eigen
) -> AllowedUpdate:
    """Everything orthogonal to the k leading singular directions of W on both sides.

    For a non-square W the larger side has directions that W does not use at all; they are free too, unless `compact` keeps only the
    core of the trailing singular pairs ((q - k) x (q - k)). `written` (m x w, n x w): directions that earlier rounds wrote, protected too.
    """
    m, n = W.shape
    q = min(m, n)
    trainable = trainable_count(q, ratio)
    k = q - trainable
    if k == 0 and not compact and written is None:
        return AllowedUpdate((m, n), None, None, None, 0, trainable)
    spaces = singular_subspaces(W, solve)
    if written is not None:
        written = (written[0].to(W.device), written[1].to(W.device))  # a memory from disk lies on the CPU
    left, left_without = _free_side(spaces.U, k, thin=compact or m == q, used=written[0] if written else None)
    right, right_without = _free_side(spaces.V, k, thin=compact or n == q, used=written[1] if written else None)
    if written is not None:
        trainable = min(trainable, _width(m, left, left_without), _width(n, right, right_without))
        if trainable == 0:
            raise TrainingError(f"a {m} x {n} weight", "has no free directions left after the earlier rounds", "raise unfreeze_rank_ratio")
    return AllowedUpdate((m, n), left, right, None, q - trainable, trainable, left_without, right_without)


def _free_side(vectors: Tensor, k: int, *, thin: bool, used: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """(basis, None) of the trailing directions, or (None, the directions to leave out) where everything beyond the leading k is free."""
    if thin:
        trailing = vectors[:, k:]
        return _basis(trailing if used is None else without_directions(trailing, used)), None
    leading = vectors[:, :k]
    return None, _basis(leading if used is None else joined_directions(leading, used))


def _width(dimension: int, basis: Tensor | None, without: Tensor | None) -> int:
    """How many directions of a side are free."""
    if basis is not None:
        return basis.shape[1]
    return dimension if without is None else dimension - without.shape[1]


def protect_weights_block(W: Tensor, ratio: float, *, solve: Solve = eigen) -> AllowedUpdate:
    """Everything but the block that maps the leading input directions of W to its leading output directions."""
    m, n = W.shape
    q = min(m, n)
    trainable = trainable_count(q, ratio)
    k = q - trainable
    if k == 0:
        return AllowedUpdate((m, n), None, None, None, 0, trainable)
    spaces = singular_subspaces(W, solve)
    return AllowedUpdate((m, n), None, None, (_basis(spaces.U[:, :k]), _basis(spaces.V[:, :k])), k, trainable)


def protect_activations(shape: tuple[int, int], moment: Tensor, ratio: float, *, solve: Solve = eigen) -> AllowedUpdate:
    """Only the input directions in which everything learned so far has least energy: the trailing eigenvectors of the moment (n x n)."""
    n = shape[1]
    trainable = trainable_count(n, ratio)
    if trainable == n:
        return AllowedUpdate(shape, None, None, None, 0, n)
    return AllowedUpdate(shape, None, _basis(weakest_directions(moment, trainable, solve)), None, n - trainable, trainable)


def _basis(vectors: Tensor) -> Tensor:
    return vectors.to(torch.float32).contiguous()
