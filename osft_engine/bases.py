"""Allowed directions on disk: for a resumed run, which must train in bit-identical ones, and for the next run over the same weights.

A cache entry is named by everything that decided it, so a sweep over learning rates and a retry decompose once. A sweep over ratios keeps
whole decompositions instead, which every ratio cuts elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from data_contracts.digests import value_digest
from osft_engine.files import read_tensors, save_tensors
from osft_engine.ledger import Ledger, load_ledger, save_ledger
from osft_engine.protection import AllowedUpdate
from osft_engine.run import WHOLE
from osft_engine.subspace import Eigen, Solve, eigen


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
    if cache is None:
        return build()
    path = cache / f"directions-{value_digest(dict(key))}.safetensors"
    if not path.is_file():
        made = build()
        save_bases(made, path)
        return made
    return load_bases(path)


def cached_ledger(cache: Path | None, key: Mapping[str, Any], build: Callable[[], Ledger]) -> Ledger:
    """The calibrated ledger under `key`, from the cache or built and kept there."""
    if cache is None:
        return build()
    path = cache / f"calibration-{value_digest(dict(key))}.safetensors"
    if not path.is_file():
        made = build()
        save_ledger(made, path)
        return made
    return load_ledger(path)


class Decompositions:
    """Whole decompositions, a file a matrix under `key`: what is there is read, what is not is computed and kept. None keeps nothing."""

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
