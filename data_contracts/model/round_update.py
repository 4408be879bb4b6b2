"""The facts of a round's update (update.safetensors), as its metadata holds them: the engine writes them; engine, lineage and audit read
them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

_FACTS = "facts"


@dataclass(frozen=True)
class UpdateFacts:
    """rights: layer -> the tensor that is its right side, which layers with the same input directions share.
    transposed: layers whose weight lies as in x out in the model's files (GPT-2's Conv1D).
    experts: modules of fused experts -> how many each has; their layers are named `<module>.<number>.<matrix>`."""

    rights: Mapping[str, str] = field(default_factory=dict)
    transposed: tuple[str, ...] = ()
    experts: Mapping[str, int] = field(default_factory=dict)


def write_update_facts(facts: UpdateFacts) -> dict[str, str]:
    """The metadata of the file. One value with sorted keys: safetensors writes several entries in any order."""
    content: dict[str, object] = {"rights": dict(facts.rights), "transposed": facts.transposed}
    if facts.experts:  # a model without experts has the file that it had before there were any
        content["experts"] = dict(facts.experts)
    return {_FACTS: json.dumps(content, sort_keys=True)}


def read_update_facts(metadata: Mapping[str, str]) -> UpdateFacts:
    """Older files name the right sides only."""
    content = json.loads(metadata[_FACTS]) if _FACTS in metadata else {"rights": json.loads(metadata.get("rights", "{}"))}
    return UpdateFacts(content["rights"], tuple(content.get("transposed", ())), content.get("experts", {}))
