"""Something that was found of a model: what `skillstack doctor` prints, and what a round keeps with its validated drop."""

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
    """{name: value}, in the order in which they were found."""
    write_atomically(path, json.dumps({fact.name: fact.value for fact in facts}, indent=2, ensure_ascii=False) + "\n")
