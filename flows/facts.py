"""Something that was found of a model: what `skillstack doctor` prints and a round keeps with its validated drop."""

from __future__ import annotations

from data_contracts.manifests import Record


class Fact(Record):
    name: str
    value: str
