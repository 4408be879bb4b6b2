"""Which directions an update may touch, for each of the three protections.

weights         U_k^T dW = 0 and dW V_k = 0     the method as published, enforced on the update itself
weights_block   U_k^T dW V_k = 0                the projection written in the paper: G - U_k (U_k^T G V_k) V_k^T
activations     dW R_k = 0                      R_k leads the second moment of the layer's inputs on everything learned so far

An allowed update is dW = L C R^T with orthonormal L (m x a) and R (n x r); None stands for the identity. `weights_block` has no
such product form: its update is a dense D less its protected block.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from data_contracts.errors import TrainingError
from osft_engine.subspace import orthogonal_complement, outside_share, quietest_directions, singular_subspaces, without_directions


@dataclass(frozen=True)
class AllowedUpdate:
    """The directions of one weight (m x n) that training may move. Bases are float32."""

    shape: tuple[int, int]
    left: Tensor | None
    right: Tensor | None
    block: tuple[Tensor, Tensor] | None = None
    protected: int = 0
    trainable: int = 0

    @property
    def core_shape(self) -> tuple[int, int]:
        """Shape of C, what is trained."""
        m, n = self.shape
        return (m if self.left is None else self.left.shape[1], n if self.right is None else self.right.shape[1])

    @property
    def device(self) -> torch.device:
        """Where the bases lie; the CPU where there are none."""
        basis = next((each for each in (self.left, self.right, *(self.block or ())) if each is not None), None)
        return torch.device("cpu") if basis is None else basis.device

    def to(self, device: torch.device) -> AllowedUpdate:
        """The same directions on another device."""
        left = None if self.left is None else self.left.to(device)
        right = None if self.right is None else self.right.to(device)
        block = None if self.block is None else (self.block[0].to(device), self.block[1].to(device))
        return AllowedUpdate(self.shape, left, right, block, self.protected, self.trainable)

    def expand(self, core: Tensor) -> Tensor:
        """dW (m x n) of a core C, in the core's dtype."""
        if self.block is not None:
            U, V = (basis.to(core) for basis in self.block)
            return core - U @ ((U.T @ core @ V) @ V.T)
        left = None if self.left is None else self.left.to(core)
        right = None if self.right is None else self.right.to(core)
        (m, n), (a, r) = self.shape, self.core_shape
        if left is not None and right is not None and a * r * n + m * a * n < m * a * r + m * r * n:
            return left @ (core @ right.T)
        update = core if left is None else left @ core
        return update if right is None else update @ right.T

    def leak(self, dW: Tensor) -> float:
        """Part of an update that lies where it must not, relative to its size."""
        if self.block is None:
            return outside_share(dW, self.left, self.right)
        size = float(dW.to(torch.float64).norm())
        U, V = (basis.to(torch.float64) for basis in self.block)
        return float((U.T @ dW.to(torch.float64) @ V).norm()) / size if size > 0.0 else 0.0


def trainable_count(directions: int, ratio: float) -> int:
    """round(ratio * directions), at least one: a layer that was named as a target trains something."""
    return max(1, min(directions, round(ratio * directions)))


def protect_weights(W: Tensor, ratio: float, *, compact: bool = False, written: tuple[Tensor, Tensor] | None = None) -> AllowedUpdate:
    """Everything orthogonal to the k leading singular directions of W on both sides.

    For a non-square W the larger side has directions that W does not use at all; they are free too, unless `compact` keeps only the
    core of the trailing singular pairs ((q - k) x (q - k)). `written` (m x w, n x w) are directions of earlier rounds, protected too.
    """
    m, n = W.shape
    q = min(m, n)
    trainable = trainable_count(q, ratio)
    k = q - trainable
    if k == 0 and not compact and written is None:
        return AllowedUpdate((m, n), None, None, None, 0, trainable)
    spaces = singular_subspaces(W)
    left = spaces.U[:, k:] if compact or m == q else orthogonal_complement(spaces.U[:, :k])
    right = spaces.V[:, k:] if compact or n == q else orthogonal_complement(spaces.V[:, :k])
    if written is not None:
        left, right = without_directions(left, written[0]), without_directions(right, written[1])
        trainable = min(left.shape[1], right.shape[1], trainable)
        if trainable == 0:
            raise TrainingError(f"a {m} x {n} weight", "has no free directions left after the earlier rounds", "raise unfreeze_rank_ratio")
    return AllowedUpdate((m, n), _basis(left), _basis(right), None, q - trainable, trainable)


def protect_weights_block(W: Tensor, ratio: float) -> AllowedUpdate:
    """Everything but the block that maps the leading input directions of W to its leading output directions."""
    m, n = W.shape
    q = min(m, n)
    trainable = trainable_count(q, ratio)
    k = q - trainable
    if k == 0:
        return AllowedUpdate((m, n), None, None, None, 0, trainable)
    spaces = singular_subspaces(W)
    return AllowedUpdate((m, n), None, None, (_basis(spaces.U[:, :k]), _basis(spaces.V[:, :k])), k, trainable)


def protect_activations(shape: tuple[int, int], moment: Tensor, ratio: float) -> AllowedUpdate:
    """Only input directions in which nothing learned so far has (much) energy: the quietest of the moment (n x n)."""
    n = shape[1]
    trainable = trainable_count(n, ratio)
    if trainable == n:
        return AllowedUpdate(shape, None, None, None, 0, n)
    return AllowedUpdate(shape, None, _basis(quietest_directions(moment, trainable)), None, n - trainable, trainable)


def _basis(vectors: Tensor) -> Tensor:
    return vectors.to(torch.float32).contiguous()
