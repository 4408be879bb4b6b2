"""The facts of a subspace memory (ledger.safetensors), as its metadata holds them: the engine writes them, engine and audit read them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from data_contracts.digests import canonical_json
from data_contracts.errors import CheckpointError

_VERSION = "2"
_VERSION_OF_THREE_KEYS = "1"  # before `missing`: version, rounds and leaders as metadata of their own


@dataclass(frozen=True)
class MemoryFacts:
    """rounds: what was learned, in order. leaders: layer -> the layer whose sum it shares.
    missing: leader -> numbers of the rounds that its sum lacks. reached: leader -> tokens that its sum was read from, for experts."""

    rounds: tuple[str, ...] = ()
    leaders: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    reached: Mapping[str, int] = field(default_factory=dict)


def write_facts(facts: MemoryFacts) -> dict[str, str]:
    """The metadata of the file. One value with sorted keys: safetensors writes several entries in any order."""
    content: dict[str, object] = {
        "version": _VERSION,
        "rounds": facts.rounds,
        "leaders": dict(facts.leaders),
        "missing": dict(facts.missing),
    }
    if facts.reached:  # a model without experts has the file that it had before there were any
        content["reached"] = dict(facts.reached)
    return {"ledger": canonical_json(content)}


def read_facts(metadata: Mapping[str, str], where: str) -> MemoryFacts:
    """Raises CheckpointError where the file is no subspace memory of this version or the one before."""
    if metadata.get("ledger_version") == _VERSION_OF_THREE_KEYS:
        return MemoryFacts(tuple(json.loads(metadata["rounds"])), json.loads(metadata["leaders"]))
    content = json.loads(metadata.get("ledger", "{}"))
    if content.get("version") != _VERSION:
        raise CheckpointError(where, "is not a subspace memory of this version", "start the lineage again or restore the file")
    missing = {leader: tuple(lacks) for leader, lacks in content["missing"].items()}
    return MemoryFacts(tuple(content["rounds"]), content["leaders"], missing, content.get("reached", {}))
