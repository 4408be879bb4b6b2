"""A fact about a model, which `skillstack doctor` prints and a round stores with its validated drop."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from data_contracts.files import write_atomically
from data_contracts.manifests import Record

FACTS_NAME = "model.json"


class Fact(Record):
    name: str
    value: str


def write_facts(path: Path, facts: Sequence[Fact]) -> None:
    """Write {name: value}, in the given order."""
    write_atomically(path, json.dumps({fact.name: fact.value for fact in facts}, indent=2, ensure_ascii=False) + "\n")
