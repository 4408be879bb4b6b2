"""The subspace memory: second moments of the layers' inputs on everything learned so far, carried from round to round.

A decomposition of the newest weights does not show which of their small directions hold what earlier rounds learned. The memory does: per
layer it sums the mean input second moment of each round (round 0 is general text), every round with equal weight, in a size that does not
grow with the number of rounds. It names the layers that a round did not measure; the next round that protects by inputs measures them
(prepare.py). A constant-memory form of what GPM (Saha et al. 2021) and Adam-NSCL (Wang et al. 2021) keep.

Stored as ledger.safetensors, its name in every release; nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from data_contracts.errors import CheckpointError
from data_contracts.model.subspace_memory import MemoryFacts, read_facts, write_facts
from osft_engine.files import read_tensors, save_tensors
from osft_engine.memory.moments import LayerMoments
from osft_engine.subspace.algebra import (
    EigenSketch,
    falling_energies,
    joined_directions,
    singular_subspaces,
    sketch_moment,
    written_directions,
)


@dataclass(frozen=True)
class SubspaceMemory:
    """rounds: what was learned, in order. sketches: leader -> summed moment. leaders: layer -> the layer whose moment it shares.
    written: layer -> orthonormal column and row directions (m x w, n x w) that earlier rounds' updates used.
    missing: leader -> numbers of the rounds that its sum lacks; a leader that was measured in every round is not named.
    reached: leader -> how many tokens its sum was read from, for experts, which read the tokens that reach them."""

    rounds: tuple[str, ...] = ()
    sketches: Mapping[str, EigenSketch | Tensor] = field(default_factory=dict)
    leaders: Mapping[str, str] = field(default_factory=dict)
    written: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    missing: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    reached: Mapping[str, int] = field(default_factory=dict)

    def moment(self, layer: str, device: torch.device | None = None) -> Tensor:
        """Summed input second moment (n x n) of a layer, float32 or better, on a device (None: where it lies). Raises CheckpointError for
        a layer it does not know."""
        return _dense(self._sum(layer), device)

    def energies(self, layer: str) -> Tensor:
        """Eigenvalues (n, float64) of a layer's moment, falling; of one in bounded size they are known and nothing is decomposed.
        Raises CheckpointError for a layer it does not know."""
        kept = self._sum(layer)
        return kept.falling_energies() if isinstance(kept, EigenSketch) else falling_energies(kept)

    def _sum(self, layer: str) -> EigenSketch | Tensor:
        leader = self.leaders.get(layer)
        if leader is None:
            raise CheckpointError(
                "subspace memory",
                f"has no inputs of layer {layer}, which read nothing of the text it was measured on",
                "raise moment_tokens, give calibration text that reaches the layer, or leave it out of target_patterns",
            )
        return self.sketches[leader]

    def lacking(self, layers: Iterable[str]) -> tuple[int, ...]:
        """Numbers of the rounds that at least one of these layers was not measured in, rising."""
        found: set[int] = set()
        for layer in layers:
            leader = self.leaders.get(layer)
            found.update(range(len(self.rounds)) if leader is None else self.missing.get(leader, ()))
        return tuple(sorted(found))

    def opened(self, names: Iterable[str]) -> SubspaceMemory:
        """The memory with further rounds, none of them measured yet."""
        rounds = (*self.rounds, *names)
        new = tuple(range(len(self.rounds), len(rounds)))
        missing = {leader: (*self.missing.get(leader, ()), *new) for leader in self.sketches} if new else self.missing
        return replace(self, rounds=rounds, missing=missing)

    def add(self, name: str, measured: LayerMoments, rank: int) -> SubspaceMemory:
        """The memory after one more round. Layers that were not measured keep their sum, and are named as lacking this round."""
        return self.opened((name,)).measured_in(len(self.rounds), measured, rank)

    def measured_in(self, number: int, measured: LayerMoments, rank: int) -> SubspaceMemory:
        """The memory with a round's moments added to every measured sum that lacks the round; adding it twice changes nothing.

        Layers that read one tensor share one sum: a new layer that shares the input of a known one takes over its sum. Moments wider than
        `rank` are truncated to their strongest directions.
        """
        sketches, leaders, missing, reached = dict(self.sketches), dict(self.leaders), dict(self.missing), dict(self.reached)
        for first, moment in measured.moments.items():
            group = [layer for layer, leader in measured.leaders.items() if leader == first]
            sums = list(dict.fromkeys(leaders[layer] for layer in group if layer in leaders))
            if not sums:
                sums, sketches[first], missing[first] = [first], torch.zeros_like(moment), tuple(range(len(self.rounds)))
            leaders |= {layer: sums[0] for layer in group if layer not in leaders}
            for leader in sums:
                if number not in missing.get(leader, ()):
                    continue
                if first in measured.reached:
                    reached[leader] = reached.get(leader, 0) + measured.reached[first]
                # On the device that measured it, where a wide one is truncated too.
                total = _dense(sketches[leader], moment.device).to(moment) + moment
                if reached.get(leader) == 0:
                    sketches[leader] = EigenSketch(total.new_zeros(len(total), 0).cpu(), total.new_zeros(0).cpu(), 0.0)
                else:
                    sketches[leader] = total.cpu() if total.shape[0] <= rank else sketch_moment(total, rank).cpu()
                missing[leader] = tuple(each for each in missing[leader] if each != number)
        missing = {leader: lacks for leader, lacks in missing.items() if lacks}
        return replace(self, sketches=sketches, leaders=leaders, missing=missing, reached=reached)

    def add_written(self, updates: Mapping[str, tuple[Tensor, Tensor | None]], share: float, rank: int) -> SubspaceMemory:
        """Remember the column and row spaces of this round's updates, at most `rank` directions each.

        updates: layer -> left (m x r), right (n x r) with dW = left right^T, or dW itself and None.
        """
        written: dict[str, tuple[Tensor, Tensor]] = dict(self.written)
        for layer, (left, right) in updates.items():
            new = _written_densely(left, share) if right is None else written_directions(left, right.to(left.device), share)
            old = written.get(layer, (new[0][:, :0], new[1][:, :0]))
            written[layer] = (_joined(old[0], new[0], rank), _joined(old[1], new[1], rank))
        return replace(self, written=written)


def _dense(kept: EigenSketch | Tensor, device: torch.device | None) -> Tensor:
    return kept.dense(device) if isinstance(kept, EigenSketch) else kept.to(device)


def _written_densely(dW: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """`written_directions` of an update without thin factors: its Gram matrix is several times cheaper than QR and SVD."""
    spaces = singular_subspaces(dW)
    energy = spaces.values.square()
    count = int((energy.cumsum(0) < share * energy.sum()).sum()) + 1 if float(energy.sum()) > 0.0 else 0
    return spaces.U[:, :count].to(torch.float32), spaces.V[:, :count].to(torch.float32)


def _joined(old: Tensor, new: Tensor, rank: int) -> Tensor:
    return joined_directions(old, new)[:, :rank].to(torch.float32)


def save_memory(memory: SubspaceMemory, path: Path) -> None:
    """Equal memories make equal bytes, in whatever order they were built."""
    tensors: dict[str, Tensor] = {}
    for leader, kept in memory.sketches.items():
        if isinstance(kept, EigenSketch):
            tensors[f"{leader}.vectors"], tensors[f"{leader}.values"] = kept.vectors, kept.values
            tensors[f"{leader}.residual"] = torch.tensor(kept.residual, dtype=torch.float64)
        else:
            tensors[f"{leader}.moment"] = kept.to(torch.float32)
    for layer, (left, right) in memory.written.items():
        tensors[f"{layer}.written_left"], tensors[f"{layer}.written_right"] = left, right
    save_tensors(tensors, path, write_facts(MemoryFacts(memory.rounds, memory.leaders, memory.missing, memory.reached)))


def load_memory(path: Path) -> SubspaceMemory:
    """Raises CheckpointError where the file is not a subspace memory of this version or the one before."""
    tensors, metadata = read_tensors(path)
    facts = read_facts(metadata, str(path))
    sketches: dict[str, EigenSketch | Tensor] = {}
    written: dict[str, tuple[Tensor, Tensor]] = {}
    for name in tensors:
        leader, _, part = name.rpartition(".")
        if part == "moment":
            sketches[leader] = tensors[name]
        elif part == "vectors":
            sketches[leader] = EigenSketch(tensors[name], tensors[f"{leader}.values"], float(tensors[f"{leader}.residual"]))
        elif part == "written_left":
            written[leader] = (tensors[name], tensors[f"{leader}.written_right"])
    return SubspaceMemory(facts.rounds, sketches, facts.leaders, written, facts.missing, facts.reached)
