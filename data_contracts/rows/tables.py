"""Rows of tables with nested columns, as Parquet files and `datasets` hold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


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
