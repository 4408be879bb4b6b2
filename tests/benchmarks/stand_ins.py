"""Random directions in the sizes of the real ones, for timing a step on random weights without decomposing them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from osft_engine.config import TrainConfig
from osft_engine.subspace.protection import AllowedUpdate


class StandIns:
    """Random orthonormal directions in the sizes of the real ones. One basis per size is made, every layer gets its own copy.

    Beside the weight, a layer keeps its float32 bases where they were read, on the CPU: these need no copies of their own.
    """

    def __init__(self, device: torch.device, ratio: float) -> None:
        self.device, self.ratio, self.beside = device, ratio, False
        self.made: dict[tuple[int, int], torch.Tensor] = {}
        self.on_cpu: dict[tuple[int, int], torch.Tensor] = {}

    def basis(self, dimension: int, count: int) -> torch.Tensor:
        key = (dimension, count)
        if key not in self.made:
            self.made[key] = torch.linalg.qr(torch.randn(dimension, count, device=self.device))[0].contiguous()
            self.on_cpu[key] = self.made[key].cpu()
        return self.on_cpu[key].detach() if self.beside else self.made[key].clone()

    def side(self, dimension: int, free: int, kept: int, *, thin: bool) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        return (self.basis(dimension, free), None) if thin else (None, self.basis(dimension, kept))

    def allowed(self, targets: dict[str, nn.Module], config: TrainConfig) -> dict[str, AllowedUpdate]:
        self.beside = config.execution == "side"
        found: dict[str, AllowedUpdate] = {}
        shared: dict[str, torch.Tensor] = {}  # layers that read one tensor share one basis
        for name, module in targets.items():
            m, n = module.weight.shape  # type: ignore[misc]
            if config.protect == "activations":
                free = round(self.ratio * n)
                reads = name.rpartition(".")[0] + (".qkv" if name.endswith(("q_proj", "k_proj", "v_proj")) else ".in")
                key = name if name.endswith(("o_proj", "down_proj")) else reads
                shared[key] = shared[key] if key in shared else self.basis(n, free)
                found[name] = AllowedUpdate((m, n), None, shared[key], None, n - free, free)
                continue
            free = round(self.ratio * min(m, n))
            kept = min(m, n) - free
            if config.protect == "weights_block":
                found[name] = AllowedUpdate((m, n), None, None, (self.basis(m, kept), self.basis(n, kept)), kept, free)
                continue
            left, left_without = self.side(m, free, kept, thin=config.compact or m <= n)
            right, right_without = self.side(n, free, kept, thin=config.compact or n <= m)
            found[name] = AllowedUpdate((m, n), left, right, None, kept, free, left_without, right_without)
        return found

    def split(self, weight: torch.Tensor, top_k: int) -> dict[str, Any]:
        """In place of PEFT's `decompose_weight_matrix`, which takes minutes for all matrices of such a model."""
        (m, n), q = weight.shape, min(weight.shape)
        parts = {"U_high": (m, top_k), "V_high": (n, top_k), "U_low": (m, q - top_k), "V_low": (n, q - top_k)}
        made = {name: self.basis(*size).to(weight.dtype) for name, size in parts.items()}
        made |= {name: made[name].T.contiguous() for name in ("V_high", "V_low")}
        made |= {"S_high": weight.new_ones(top_k), "S_low": weight.new_ones(q - top_k)}
        low = {name: nn.Parameter(made[name]) for name in ("U_low", "S_low", "V_low")}
        return made | low | {"rank_high": top_k}
