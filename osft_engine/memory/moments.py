"""Second moments of the target layers' inputs: the mean of x x^T over the tokens of a text.

Layers that read the same tensor (q, k and v; gate and up) share one moment, kept under the name of the first, the leader. An expert reads
the tokens that reach it: its moment is their sum divided by all tokens of the text, so that a round weighs in it as much as it is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from osft_engine.compute.forward import read_batches, read_rows
from osft_engine.data.batches import Layout, MicroBatch, micro_batches
from osft_engine.data.examples import Example


@dataclass(frozen=True)
class LayerMoments:
    """moments: leader -> (n x n) float32, mean over tokens. leaders: every layer -> its leader. tokens: how many were read.
    reached: how many of them each leader read, for those that are given a part of the tokens."""

    moments: Mapping[str, Tensor]
    leaders: Mapping[str, str]
    tokens: int
    reached: Mapping[str, int] = field(default_factory=dict)


@dataclass
class _Collector:
    names: dict[nn.Module, str]
    sums: dict[str, Tensor] = field(default_factory=dict)
    leaders: dict[str, str] = field(default_factory=dict)
    reached: dict[str, int] = field(default_factory=dict)
    mask: Tensor | None = None
    last: tuple[Tensor, str] | None = None

    def begin(self, mask: Tensor | None) -> None:
        """Forget the last batch's tensors; `mask`: the next one's real tokens."""
        self.mask, self.last = mask, None

    def observe(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Forward pre-hook of a target layer."""
        x, name = inputs[0], self.names[module]
        if self.last is not None and self.last[0] is x and self.leaders.get(name, self.last[1]) == self.last[1]:
            self.leaders[name] = self.last[1]
            return
        self.last = (x, name)
        self.leaders[name] = name
        flat = read_rows(x.detach(), inputs, self.mask).to(torch.float32)
        if len(inputs) > 1:
            self.reached[name] = self.reached.get(name, 0) + len(flat)
        if name in self.sums:
            self.sums[name].addmm_(flat.T, flat)
        else:
            self.sums[name] = flat.T @ flat


def measure_moments(model: Any, targets: Mapping[str, nn.Module], batches: Sequence[MicroBatch]) -> LayerMoments:
    """Run the batches through the model and average x x^T over their real tokens, layer by layer."""
    collector = _Collector({module: name for name, module in targets.items()})
    hooks = [module.register_forward_pre_hook(collector.observe) for module in targets.values()]
    tokens = read_batches(model, batches, hooks, collector.begin)
    for total in collector.sums.values():
        total.div_(tokens)  # a second copy of every layer's would take 33 GB for 8B shapes
    return LayerMoments(collector.sums, collector.leaders, tokens, collector.reached)


def sample_for_moments(examples: Sequence[Example], *, tokens: int, seed: int, max_tokens: int, layout: Layout) -> list[MicroBatch]:
    """Batches of about `tokens` tokens, drawn at random from the examples, without repetition."""
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(seed)).tolist()
    chosen: list[Example] = []
    total = 0
    for index in order:
        if chosen and total + len(examples[index].ids) > tokens:
            break
        chosen.append(examples[index])
        total += len(examples[index].ids)
    return micro_batches(chosen, max_tokens=max_tokens, layout=layout)
