"""Walking JSON values, and what tables make of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def strings_of(value: Any) -> Iterator[str]:
    """Every string in a JSON value, names of fields included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield str(name)
            yield from strings_of(part)
    elif isinstance(value, list):
        for part in value:
            yield from strings_of(part)


def without_filling(value: Any) -> Any:
    """A row without the nulls of its structs.

    Arrow gives every struct of a column the fields of all of them: a call of weather(city) beside one of pay(amount) reads
    {"city": "Rome", "amount": null}, which a chat template prints. A null that was meant cannot be told from those.
    """
    if isinstance(value, Mapping):
        return {name: without_filling(part) for name, part in value.items() if part is not None}
    if isinstance(value, list):
        return [without_filling(part) for part in value]
    return value
