"""Pure linear algebra of subspaces: which directions a matrix uses, and orthonormal bases of the ones it leaves.

Shape legend: W is out x in (m x n), q = min(m, n), W = U S V^T; U_k, V_k are the k leading singular directions;
L (m x a) and R (n x r) are orthonormal bases of the allowed output and input directions.

Only subspaces are needed, never a full SVD: a float64 eigendecomposition of the smaller Gram matrix gives them several times faster.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_WELL_CONDITIONED = 1e-3  # ratio of singular values above which W^T u / s is orthonormal to 1e-9 without QR, at half the time


@dataclass(frozen=True)
class SingularSubspaces:
    """Orthonormal columns in order of falling singular value, float64: U (m x q), V (n x q), values (q)."""

    U: Tensor
    V: Tensor
    values: Tensor


@dataclass(frozen=True)
class Eigen:
    """Eigenvalues (n) of a symmetric matrix, falling, and its orthonormal eigenvectors as columns (n x n)."""

    values: Tensor
    vectors: Tensor


def eigen(matrix: Callable[[], Tensor]) -> Eigen:
    """Decompose a symmetric matrix in its own precision. The matrix comes as a function, which a cache need not call."""
    values, vectors = torch.linalg.eigh(matrix())
    return Eigen(values.flip(-1), vectors.flip(-1))


Solve = Callable[[Callable[[], Tensor]], Eigen]
"""`eigen`, or a version with a cache (bases.py)."""


def singular_subspaces(W: Tensor, solve: Solve = eigen) -> SingularSubspaces:
    """U, V and the singular values of W (m x n), from the Gram matrix of its smaller side.

    The Gram matrix halves the digits of small singular values, so the larger side is re-orthonormalised by QR where some are small: its
    columns stay orthonormal even where W is rank deficient, and span what they should for every value above 1e-7 of the largest.
    """
    W = W.detach().to(torch.float64)
    if W.shape[0] > W.shape[1]:
        flipped = singular_subspaces(W.T, solve)
        return SingularSubspaces(U=flipped.V, V=flipped.U, values=flipped.values)
    gram = solve(lambda: W @ W.T)
    U, values = gram.vectors.to(W.device), gram.values.to(W.device).clamp_min(0).sqrt()
    image = W.T @ U
    if float(values[-1]) > _WELL_CONDITIONED * float(values[0]):
        return SingularSubspaces(U=U, V=image / values, values=values)
    V, upper = torch.linalg.qr(image)
    V = V * torch.where(upper.diagonal() < 0, -1.0, 1.0)  # QR may flip a column; W^T u = s v with s >= 0
    return SingularSubspaces(U=U, V=V, values=values)


def without_directions(Q: Tensor, used: Tensor) -> Tensor:
    """Orthonormal basis of what is left of the orthonormal Q (n x a) without the directions `used` (n x w)."""
    inside = Q.T @ used.to(Q)
    U, values, _ = torch.linalg.svd(inside, full_matrices=True)
    taken = int((values > 1e-6).sum())
    rest: Tensor = Q @ U[:, taken:]
    return rest


def joined_directions(old: Tensor, new: Tensor) -> Tensor:
    """Orthonormal basis of both spans (n x a and n x b), float64; the old one's columns come first and stay as they are."""
    first = old.to(torch.float64)
    rest = new.to(torch.float64) - first @ (first.T @ new.to(torch.float64))
    U, values, _ = torch.linalg.svd(rest, full_matrices=False)
    return torch.cat([first, U[:, values > 1e-6]], dim=1)


def written_directions(left: Tensor, right: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Leading column and row directions (m x w, n x w, float32) of dW = left right^T that hold `share` of its squared norm."""
    Ql, Rl = torch.linalg.qr(left.to(torch.float64))
    Qr, Rr = torch.linalg.qr(right.to(torch.float64))
    U, values, Vt = torch.linalg.svd(Rl @ Rr.T, full_matrices=False)
    energy = values.square()
    count = int((energy.cumsum(0) < share * energy.sum()).sum()) + 1 if float(energy.sum()) > 0.0 else 0
    return (Ql @ U[:, :count]).to(torch.float32), (Qr @ Vt[:count].T).to(torch.float32)


@dataclass(frozen=True)
class EigenSketch:
    """A second moment M (n x n) in bounded size: M ~ V diag(values) V^T + residual * (I - V V^T).

    vectors: n x s, orthonormal, energy falling; values: s; residual: mean energy of each direction that was not kept.
    """

    vectors: Tensor
    values: Tensor
    residual: float

    def cpu(self) -> EigenSketch:
        return EigenSketch(self.vectors.cpu(), self.values.cpu(), self.residual)

    def dense(self, device: torch.device | None = None) -> Tensor:
        """M in float64, n x n, multiplied out on a device (None: where the sketch lies)."""
        V, values = self.vectors.to(device, torch.float64), self.values.to(device, torch.float64)
        M: Tensor = (V * (values - self.residual)) @ V.T
        M.diagonal().add_(self.residual)
        return M

    def falling_energies(self) -> Tensor:
        """Eigenvalues (n, float64) of M, falling: those that are kept, and the residual for every other direction."""
        n, kept = self.vectors.shape
        rest = self.values.new_full((n - kept,), self.residual, dtype=torch.float64)
        return torch.cat([self.values.to(torch.float64), rest]).clamp_min(0).sort(descending=True).values


def sketch_moment(M: Tensor, rank: int) -> EigenSketch:
    """Truncate a symmetric positive moment M (n x n) to its `rank` strongest directions; the rest is kept as its mean."""
    energy, vectors = torch.linalg.eigh(M.to(torch.float64))
    energy, vectors = energy.flip(-1).clamp_min(0), vectors.flip(-1)
    kept = min(rank, M.shape[0])
    residual = float(energy[kept:].mean()) if kept < M.shape[0] else 0.0
    return EigenSketch(vectors[:, :kept].to(torch.float32).contiguous(), energy[:kept].to(torch.float32), residual)


def weakest_directions(M: Tensor, count: int, solve: Solve = eigen) -> Tensor:
    """Orthonormal basis (n x count, float64) of the directions in which the second moment M (n x n) has least energy, lowest first.

    The eigenvectors are found in float32, in half the time: an eigenvalue is then wrong by up to 1e-7 of the largest,
    far below the energies at any useful cut. One Newton step then makes the basis orthonormal to float64.
    """
    vectors = solve(lambda: M.to(torch.float32)).vectors.to(M.device)
    return orthonormalise(vectors.flip(-1)[:, :count].to(torch.float64))


def orthonormalise(Q: Tensor) -> Tensor:
    """The nearest orthonormal basis to one that is nearly so (an error of 1e-6 becomes 1e-12): a Newton step of the polar factor."""
    nearest: Tensor = 1.5 * Q - 0.5 * Q @ (Q.T @ Q)
    return nearest


def falling_energies(M: Tensor) -> Tensor:
    """Eigenvalues (n, float64) of a second moment M (n x n), falling; found in float32, whose digits are enough for shares of them."""
    energy: Tensor = torch.linalg.eigvalsh(M.to(torch.float32)).flip(-1).clamp_min(0).to(torch.float64)
    return energy


def directions_holding(energy: Tensor, share: float) -> int:
    """How many of the leading directions, whose energies (n) fall, hold `share` of them all."""
    total = energy.sum()
    if not float(total) > 0.0:
        return 0
    return int((energy.cumsum(0) < share * total).sum()) + 1


def outside_share(dW: Tensor, L: Tensor | None, R: Tensor | None) -> float:
    """Relative leak of an update: the larger of ||dW - L L^T dW|| and ||dW - dW R R^T|| over ||dW|| (0 for a zero update)."""
    dW = dW.to(torch.float64)
    size = float(dW.norm())
    if size == 0.0:
        return 0.0
    leaks = [0.0]
    if L is not None:
        L = L.to(dW)
        leaks.append(float((dW - L @ (L.T @ dW)).norm()))
    if R is not None:
        R = R.to(dW)
        leaks.append(float((dW - (dW @ R) @ R.T).norm()))
    return max(leaks) / size
