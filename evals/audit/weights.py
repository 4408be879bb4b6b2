"""How far each weight matrix moved in a round, and how its protected directions turned: read from two checkpoints' files, without torch.

    drift = measure_round_drift(champion_checkpoint, candidate_checkpoint)

A block of a tensor is in memory at a time. bfloat16 is read bit by bit, because numpy has no such type.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from data_contracts.errors import CheckpointError
from data_contracts.manifests import CheckpointManifest, Record, read_manifest
from data_contracts.model.header import FileHeader, read_header
from data_contracts.model.round_update import read_update_facts

Floats = NDArray[np.float64]
ANGLES_KEPT = 8
BLOCK = 1 << 24
"""Numbers of a tensor that are compared at once: an embedding of 128,256 x 4,096 takes 4 GB in float64."""

_TYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}


class WeightDrift(Record):
    """How far one weight matrix moved in a round, and how its protected directions turned."""

    layer: str
    relative_change: float = Field(description="Frobenius norm of the update over that of the weight before it")
    principal_angles: tuple[float, ...] = Field(
        (), description="radians, the input directions that this round protects to those that the champion's round protected, largest first"
    )


@dataclass(frozen=True)
class TensorFile:
    """A safetensors file whose header was read: names, shapes and metadata now, values when they are read."""

    path: Path
    header: FileHeader

    def read(self, name: str) -> Floats:
        """One tensor in float64. Raises CheckpointError for a type that weights do not have."""
        shape = self.header.tensors[name].shape
        return self._numbers(name, 0, math.prod(shape)).reshape(shape)

    def blocks(self, name: str) -> Iterator[Floats]:
        """The tensor's numbers in float64, in order, at most BLOCK at a time. Raises as `read`."""
        size = math.prod(self.header.tensors[name].shape)
        return (self._numbers(name, start, min(BLOCK, size - start)) for start in range(0, size, BLOCK))

    def _numbers(self, name: str, start: int, count: int) -> Floats:
        entry = self.header.tensors[name]
        if entry.dtype not in _TYPES:
            raise CheckpointError(str(self.path), f"{name} has the type {entry.dtype}", f"weights must be one of {sorted(_TYPES)}")
        kind = np.dtype(_TYPES[entry.dtype])
        raw = np.fromfile(self.path, dtype=kind, count=count, offset=self.header.data_begin + entry.begin + start * kind.itemsize)
        if entry.dtype == "BF16":
            raw = (raw.astype(np.uint32) << 16).view(np.float32)
        return np.asarray(raw, dtype=np.float64)


def open_tensors(path: Path) -> TensorFile:
    """Read the header of a safetensors file. Raises CheckpointError where it is none."""
    return TensorFile(path, read_header(path, "restore the checkpoint"))


def open_weights(model: Path) -> dict[str, TensorFile]:
    """Parameter name -> the file that holds it, over all shards of a model folder."""
    found = {name: file for path in sorted(model.glob("*.safetensors")) for file in [open_tensors(path)] for name in file.header.tensors}
    if not found:
        raise CheckpointError(str(model), "has no *.safetensors weights", "give a model folder")
    return found


def measure_weight_drift(
    before: Path, after: Path, updates: tuple[Path, Path] | None = None, *, vectors: bool = False, known: int = 0
) -> tuple[WeightDrift, ...]:
    """Drift of every matrix that both model folders have, in order of its name; with `vectors` of every other tensor too (norms, biases).

    `updates`: the update files of two rounds that protected by inputs, the earlier first. Their right sides are the input directions that
    each round left free, and the angles between these are those between the ones it protected (Knyazev and Argentati 2002);
    of each layer the largest `ANGLES_KEPT` are given. `known`: of how many directions the subspace memory keeps the energy
    (`memory_rank`); 0: all. Raises CheckpointError where shapes differ or nothing is shared.
    """
    old, new = open_weights(before), open_weights(after)
    shared = [name for name in sorted(old.keys() & new.keys()) if vectors or len(old[name].header.tensors[name].shape) == 2]
    if not shared:
        raise CheckpointError(str(after), f"shares no matrix with {before}", "compare checkpoints of one architecture")
    layers = {name.removesuffix(".weight") for name in shared}
    angles = _turned(open_tensors(updates[0]), open_tensors(updates[1]), layers, known) if updates else {}
    drift = []
    for name in shared:
        layer = name.removesuffix(".weight")
        shapes = [file.header.tensors[name].shape for file in (old[name], new[name])]
        if shapes[0] != shapes[1]:
            raise CheckpointError(str(after), f"{name} is {shapes[1]}, before {shapes[0]}", "compare checkpoints of one architecture")
        moved = _relative_change(old[name].blocks(name), new[name].blocks(name))
        drift.append(WeightDrift(layer=layer, relative_change=moved, principal_angles=angles.get(layer, ())))
    return tuple(drift)


def _relative_change(before: Iterable[Floats], after: Iterable[Floats]) -> float:
    """Norm of the difference over that of the tensor before, or, where that is zero (a bias often starts so), after."""
    old = new = moved = 0.0
    for first, second in zip(before, after, strict=True):
        old, new, moved = old + float(first @ first), new + float(second @ second), moved + float(np.square(second - first).sum())
    size = old or new
    return math.sqrt(moved / size) if size else 0.0


def measure_round_drift(before: Path, after: Path) -> tuple[WeightDrift, ...]:
    """Drift between two checkpoints' folders (those with the manifests): the champion that a round started from, and what it made.

    Principal angles are there where the rounds of both protected by inputs, but for wide layers of which the subspace memory leaves out as
    many directions as a round needs (`memory_rank`): which of these were free was decided by rounding.
    """
    both = [(folder, read_manifest(folder, CheckpointManifest, verify=False)) for folder in (before, after)]
    updates = [folder / made.files["update"].path for folder, made in both if made.protect == "activations" and "update" in made.files]
    ranks = [made.config.get("memory_rank") or made.config.get("ledger_rank") for _, made in both]  # the latter in older manifests
    known = min((int(rank) for rank in ranks if rank), default=0)
    return measure_weight_drift(before / "model", after / "model", (updates[0], updates[1]) if len(updates) == 2 else None, known=known)


def principal_angles(first: Floats, second: Floats) -> tuple[float, ...]:
    """Angles (radians, largest first) between the spans of two orthonormal bases, n x k each (Bjorck and Golub 1973).

    Small angles are taken from the sine, where the cosine has lost their digits.
    """
    cosine = np.clip(np.linalg.svd(first.T @ second, compute_uv=False), 0.0, 1.0)
    sine = np.clip(np.linalg.svd(second - first @ (first.T @ second), compute_uv=False), 0.0, 1.0)
    angles = np.where(np.sort(sine)[::-1] < 0.7, np.arcsin(np.sort(sine)[::-1]), np.arccos(np.sort(cosine)))
    return tuple(float(f"{angle:.8g}") for angle in angles)


def _turned(before: TensorFile, after: TensorFile, layers: Set[str], known: int) -> dict[str, tuple[float, ...]]:
    """Layer -> the largest angles between its free directions in two rounds' updates. Layers that share them are measured once. Left out
    are layers whose number of free directions changed, and those whose free directions could all lie beyond the `known` ones."""
    rights = [read_update_facts(file.header.metadata).rights for file in (before, after)]
    pairs = {layer: (rights[0][layer], rights[1][layer]) for layer in rights[0].keys() & rights[1].keys() & layers}
    measured: dict[tuple[str, str], tuple[float, ...]] = {}
    for first, second in set(pairs.values()):
        n, free = before.header.tensors[first].shape
        if (n, free) == after.header.tensors[second].shape and not 0 < known <= n - free:
            measured[first, second] = principal_angles(before.read(first), after.read(second))[:ANGLES_KEPT]
    return {layer: measured[pair] for layer, pair in pairs.items() if pair in measured}
