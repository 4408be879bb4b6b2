"""The facts of a subspace memory: written and read back, the form before `missing` is read too, anything else is refused."""

from __future__ import annotations

import json

import pytest

from data_contracts.errors import CheckpointError
from data_contracts.model.subspace_memory import MemoryFacts, read_facts, write_facts


def test_what_was_written_is_read_back_and_order_makes_no_difference() -> None:
    facts = MemoryFacts(("sums", "sql"), {"layer.1": "layer.0", "layer.2": "layer.0"}, {"layer.0": (1, 2)})
    assert read_facts(write_facts(facts), "file") == facts
    other = MemoryFacts(facts.rounds, dict(reversed(facts.leaders.items())), facts.missing)
    assert write_facts(other) == write_facts(facts)


def test_the_form_of_three_keys_lacks_nothing() -> None:
    old = {"ledger_version": "1", "rounds": json.dumps(["sums"]), "leaders": json.dumps({"b": "a"})}
    assert read_facts(old, "file") == MemoryFacts(("sums",), {"b": "a"}, {})


@pytest.mark.parametrize("metadata", [{}, {"format": "pt"}, {"ledger": '{"version": "99"}'}])
def test_another_file_is_refused(metadata: dict[str, str]) -> None:
    with pytest.raises(CheckpointError, match="is not a subspace memory of this version"):
        read_facts(metadata, "file")
