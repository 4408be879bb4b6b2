"""Allowed directions on disk: for a resumed run, which must train in bit-identical ones, and for the next run over the same weights.

The name of a cache entry is the digest of everything that decides its content, so a sweep over learning rates and a retry decompose once. A
sweep over ratios keeps complete decompositions instead, from which each ratio takes its part.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from data_contracts.digests import file_digest, value_digest
from data_contracts.manifests import MANIFEST_NAME, CheckpointManifest, read_manifest
from osft_engine.files import read_tensors, save_tensors
from osft_engine.memory.subspace_memory import SubspaceMemory, load_memory, save_memory
from osft_engine.run import WHOLE, TrainRun
from osft_engine.subspace.algebra import Eigen, Solve, eigen
from osft_engine.subspace.protection import AllowedUpdate

Kept = TypeVar("Kept")


def save_bases(allowed: Mapping[str, AllowedUpdate], path: Path) -> None:
    """Write every basis once, also where layers share it."""
    tensors: dict[str, Tensor] = {}
    facts: dict[str, Any] = {}
    seen: dict[int, str] = {}
    for name, update in allowed.items():
        where: dict[str, str] = {}
        for part, basis in update.parts.items():
            where[part] = seen.setdefault(id(basis), f"{name}.{part}")
            tensors[where[part]] = basis
        facts[name] = {"shape": update.shape, "protected": update.protected, "trainable": update.trainable, "parts": where}
    save_tensors(tensors, path, {"layers": json.dumps(facts)})


def load_bases(path: Path) -> dict[str, AllowedUpdate]:
    """Raises CheckpointError where the file cannot be read."""
    tensors, facts = read_tensors(path)
    found: dict[str, AllowedUpdate] = {}
    for name, fact in json.loads(facts["layers"]).items():
        part = {key: tensors[where] for key, where in fact["parts"].items()}
        shape = (int(fact["shape"][0]), int(fact["shape"][1]))
        found[name] = AllowedUpdate.of_parts(shape, part, fact["protected"], fact["trainable"])
    return found


def cached_bases(cache: Path | None, key: Mapping[str, Any], build: Callable[[], dict[str, AllowedUpdate]]) -> dict[str, AllowedUpdate]:
    """The directions under `key`, from the cache or built and kept there."""
    return _cached(cache and cache / f"directions-{value_digest(dict(key))}.safetensors", build, save_bases, load_bases)


def cached_memory(cache: Path | None, key: Mapping[str, Any], build: Callable[[], SubspaceMemory]) -> SubspaceMemory:
    """The calibrated subspace memory under `key`, from the cache or built and kept there."""
    return _cached(cache and cache / f"calibration-{value_digest(dict(key))}.safetensors", build, save_memory, load_memory)


def _cached(path: Path | None, build: Callable[[], Kept], save: Callable[[Kept, Path], None], load: Callable[[Path], Kept]) -> Kept:
    if path is None:
        return build()
    if path.is_file():
        return load(path)
    made = build()
    save(made, path)
    return made


@dataclass(frozen=True)
class CacheKeys:
    """What names the entries of a run. dtype: of the weights as they were read.

    float32 weights rounded to bfloat16 are other weights with other directions, and `dtype: auto` may be either.
    """

    run: TrainRun
    base_sha256: str
    dtype: str

    def calibration(self) -> dict[str, Any]:
        """Everything that decides the measured layer inputs: model, text, and the parent's subspace memory and buffer."""
        names = {
            "seed",
            "moment_tokens",
            "memory_rank",
            "target_patterns",
            "chat_template",
            "chat_template_kwargs",
            "max_seq_len",
            "max_tokens_per_batch",
            "unmask",
        }
        text = file_digest(self.run.calibration) if self.run.calibration else None
        parent = read_parent(self.run)
        past = {role: parent.files[role].sha256 for role in ("ledger", "buffer") if role in parent.files} if parent is not None else {}
        config = self.run.config.model_dump(mode="json", include=names)
        return self._weights() | {"text": text, "documents": "after a start token", "past": past, "config": config}

    def decompositions(self) -> dict[str, Any]:
        """Everything that decides what is decomposed: the weights, or the moments that were measured on them."""
        return self._weights() if self.run.config.protect != "activations" else self._weights() | self._measured()

    def directions(self) -> dict[str, Any]:
        """Everything that decides the allowed directions: the weights, how they are cut, and what was measured to cut them."""
        config = self.run.config
        names = {"protect", "unfreeze_rank_ratio", "rank_policy", "rank_overrides", "compact", "protect_written", "target_patterns"}
        names |= {"energy_share", "importance_minimum"}
        key = self._weights() | {"config": config.model_dump(mode="json", include=names)}
        measures = config.protect == "activations" or config.rank_policy != "uniform" or config.protect_written
        return key | self._measured() if measures else key

    def _weights(self) -> dict[str, Any]:
        return {"base": self.base_sha256, "read": {"dtype": self.dtype, "quantize": self.run.config.quantize}}

    def _measured(self) -> dict[str, Any]:
        parent = file_digest(self.run.parent / MANIFEST_NAME) if self.run.parent else None
        return {"parent": parent, "calibration": self.calibration()}


def read_parent(run: TrainRun) -> CheckpointManifest | None:
    """The parent's manifest, None in a first round. Its files were verified when the run was opened."""
    return read_manifest(run.parent, CheckpointManifest, verify=False) if run.parent else None


class Decompositions:
    """Complete decompositions, one file per matrix, under `key`: read where it exists, else computed and kept. None keeps nothing."""

    def __init__(self, cache: Path | None, key: Mapping[str, Any]) -> None:
        self._folder = cache and cache / f"{WHOLE}{value_digest(dict(key))}"

    def of(self, name: str) -> Solve:
        """How to decompose the matrix of this name."""
        if self._folder is None:
            return eigen
        path = self._folder / f"{name}.safetensors"

        def solve(matrix: Callable[[], Tensor]) -> Eigen:
            if path.is_file():
                return Eigen(**read_tensors(path)[0])
            made = eigen(matrix)
            save_tensors({"values": made.values, "vectors": made.vectors}, path)
            return made

        return solve
