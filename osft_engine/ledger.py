"""The subspace ledger: what the layers' inputs looked like on everything learned so far, carried from round to round.

A plain decomposition of the newest weights cannot know which of their small directions hold what earlier rounds taught. The ledger
can: for every layer it sums the mean input second moment of each round (round 0 is general text), with equal weight a round, in a
size that does not grow with the number of rounds. Stored as safetensors; nothing is ever unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from data_contracts.errors import CheckpointError
from osft_engine.files import read_tensors, save_tensors
from osft_engine.moments import LayerMoments
from osft_engine.subspace import EigenSketch, joined_directions, sketch_moment, written_directions

_VERSION = "1"


@dataclass(frozen=True)
class Ledger:
    """rounds: what was learned, in order. sketches: leader -> summed moment. leaders: layer -> the layer whose moment it shares.
    written: layer -> orthonormal column and row directions (m x w, n x w) that earlier rounds' updates used."""

    rounds: tuple[str, ...] = ()
    sketches: Mapping[str, EigenSketch | Tensor] = field(default_factory=dict)
    leaders: Mapping[str, str] = field(default_factory=dict)
    written: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def moment(self, layer: str) -> Tensor:
        """Summed input second moment (n x n) of a layer, float32 or better. Raises CheckpointError for a layer it does not know."""
        leader = self.leaders.get(layer)
        if leader is None:
            raise CheckpointError("ledger", f"has no inputs of layer {layer}", "train with the target_patterns of the earlier rounds")
        kept = self.sketches[leader]
        return kept.dense() if isinstance(kept, EigenSketch) else kept

    def add(self, name: str, measured: LayerMoments, rank: int) -> Ledger:
        """The ledger after one more round. Moments wider than `rank` are truncated to their strongest directions."""
        sketches: dict[str, EigenSketch | Tensor] = {}
        for leader, moment in measured.moments.items():
            before = self.moment(leader).to(moment) if self.rounds else torch.zeros_like(moment)
            total = before + moment  # on the device that measured it: a wide moment is cut down there, by an eigendecomposition
            sketches[leader] = total.cpu() if total.shape[0] <= rank else sketch_moment(total, rank).cpu()
        return Ledger((*self.rounds, name), sketches, dict(measured.leaders), self.written)

    def add_written(self, updates: Mapping[str, tuple[Tensor, Tensor]], share: float, rank: int) -> Ledger:
        """Remember the column and row spaces of this round's updates (layer -> left, right with dW = left right^T), at most `rank` each."""
        written: dict[str, tuple[Tensor, Tensor]] = dict(self.written)
        for layer, (left, right) in updates.items():
            new = written_directions(left, right, share)
            old = written.get(layer, (new[0][:, :0], new[1][:, :0]))
            written[layer] = (_joined(old[0], new[0], rank), _joined(old[1], new[1], rank))
        return Ledger(self.rounds, self.sketches, self.leaders, written)


def _joined(old: Tensor, new: Tensor, rank: int) -> Tensor:
    return joined_directions(old, new)[:, :rank].to(torch.float32)


def save_ledger(ledger: Ledger, path: Path) -> None:
    tensors: dict[str, Tensor] = {}
    for leader, kept in ledger.sketches.items():
        if isinstance(kept, EigenSketch):
            tensors[f"{leader}.vectors"], tensors[f"{leader}.values"] = kept.vectors, kept.values
            tensors[f"{leader}.residual"] = torch.tensor(kept.residual, dtype=torch.float64)
        else:
            tensors[f"{leader}.moment"] = kept.to(torch.float32)
    for layer, (left, right) in ledger.written.items():
        tensors[f"{layer}.written_left"], tensors[f"{layer}.written_right"] = left, right
    facts = {"ledger_version": _VERSION, "rounds": json.dumps(ledger.rounds), "leaders": json.dumps(dict(ledger.leaders))}
    save_tensors(tensors, path, facts)


def load_ledger(path: Path) -> Ledger:
    """Raises CheckpointError where the file is not a ledger of this version."""
    tensors, facts = read_tensors(path)
    if facts.get("ledger_version") != _VERSION:
        raise CheckpointError(str(path), "is not a subspace ledger of this version", "start the lineage again or restore the file")
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
    return Ledger(tuple(json.loads(facts["rounds"])), sketches, json.loads(facts["leaders"]), written)
