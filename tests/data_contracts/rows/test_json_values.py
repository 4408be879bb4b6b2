"""Every string of a JSON value is found, at any depth, names of fields included."""

from __future__ import annotations

from data_contracts.rows.json_values import strings_of


def test_strings_of_every_kind_of_value() -> None:
    value = {"a": ["b", {"c": None, "d": [["e"]]}], "f": 1, "g": True}
    assert list(strings_of(value)) == ["a", "b", "c", "d", "e", "f", "g"]
    assert list(strings_of("x")) == ["x"]
    assert list(strings_of(3.5)) == []
