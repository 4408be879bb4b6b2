"""Second moments of the target layers' inputs: the mean of x x^T over the tokens of a text.

Layers that read the same tensor (q, k and v; gate and up) share one moment, kept under the name of the first, the leader. An expert reads
the tokens that reach it: its moment is their sum divided by all tokens of the text, so that a round weighs in it as much as it is used.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, distributed, nn

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


def moments_in_parts(model: Any, targets: Mapping[str, nn.Module], batches: Sequence[MicroBatch]) -> Iterator[LayerMoments]:
    """`measure_moments` for some blocks of layers after another, as many as there is room for on the model's device.

    The moments of 8B shapes are 33 GB, which a GPU may not have left beside the model and what was trained. Each part costs a pass over the
    batches. Layers that read one tensor are in one part.
    """
    for names in _parts(targets, _room(next(model.parameters()))):
        yield measure_moments(model, {name: targets[name] for name in names}, batches)


def _room(parameter: Tensor) -> float:
    """Bytes that moments may take: half of what is free on a parameter's GPU, the other half is for decomposing them. On a CPU all are held
    at once. The same in all processes where the model is sharded, so that they pass over the text together; before that one measures alone.
    """
    device = parameter.device
    if device.type != "cuda":
        return math.inf
    free, _ = torch.cuda.mem_get_info(device)
    room = torch.tensor((free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)) / 2, device=device)
    if hasattr(parameter, "to_local"):
        distributed.all_reduce(room, op=distributed.ReduceOp.MIN)
    return float(room)


def _parts(targets: Mapping[str, nn.Module], room: float) -> list[list[str]]:
    """The layers' names in order, whole blocks together, cut where the next block's moments (n x n float32) do not fit any more."""
    blocks: dict[str, list[str]] = defaultdict(list)
    for name in targets:
        blocks[_block(name)].append(name)
    parts: list[list[str]] = [[]]
    taken = 0.0
    for names in blocks.values():
        size = sum(4.0 * _inputs(targets[name]) ** 2 for name in names)
        if parts[-1] and taken + size > room:
            parts.append([])
            taken = 0.0
        parts[-1] += names
        taken += size
    return parts if parts[-1] else []


def _block(name: str) -> str:
    """`model.layers.3` of `model.layers.3.mlp.up_proj`: up to the first number."""
    parts = name.split(".")
    return ".".join(parts[: next((at for at, part in enumerate(parts, start=1) if part.isdigit()), 0)])


def _inputs(module: nn.Module) -> int:
    """How many numbers a layer reads per token."""
    found = getattr(module, "in_features", None)
    if found is None:  # GPT-2's Conv1D, whose weight is in x out
        weight = module.weight
        assert isinstance(weight, Tensor)
        found = weight.shape[0]
    return int(found)


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
