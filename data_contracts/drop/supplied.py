"""Held-out rows that come with the drop: checked for their shape and split into the gate's part and the sealed part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_contracts.config import ContractConfig
from data_contracts.errors import DropError
from data_contracts.matching.heldout_items import HeldoutItem, heldout_item, item_texts
from data_contracts.rows.jsonl import read_lines
from data_contracts.rows.records import join_parts, normal_text, row_json, text_key
from data_contracts.rows.taught import is_context

_FORMS = '{"messages"} ending with the gold answer or call, {"prompt", "choices", "gold"} or {"prompt", "answer"}'


@dataclass(frozen=True)
class SuppliedItem:
    """One held-out item as it was given, and whether it is sealed."""

    value: Mapping[str, Any]
    sealed: bool


def read_supplied(source: Path, config: ContractConfig) -> list[SuppliedItem]:
    """The items of a held-out file. Fails closed: one bad or repeated item raises DropError with its line.

    The sealed part is sealed_fraction : heldout_fraction of the items, chosen by a stable hash of the item's question.
    """
    both = config.heldout_fraction + config.sealed_fraction
    cut = config.sealed_fraction / both * 2.0**64 if both > 0 else 0.0
    items: list[SuppliedItem] = []
    seen: dict[int, int] = {}
    for line in read_lines(source, max_line_bytes=config.max_line_bytes, max_depth=config.max_depth):
        where = f"{source}:{line.number}"
        if line.fault is not None or line.value is None:
            raise DropError(where, line.fault[1] if line.fault else "is not an object", "correct the held-out file")
        join_parts(line.value)
        if not _has_gold(line.value):
            raise DropError(where, "is not a held-out item", f"write {_FORMS}")
        if _gold_is_context(line.value):
            way_out = "leave the item out, or its weight where the answer is learned"
            raise DropError(where, "has a gold answer of weight 0, which is context and not learned", way_out)
        key = text_key(normal_text(row_json(line.value)), "item")
        if key in seen:
            raise DropError(where, f"repeats the item of line {seen[key]}", "leave one of them out")
        seen[key] = line.number
        question = "\n".join(item_texts(line.value)[0])
        items.append(SuppliedItem(line.value, text_key(normal_text(question), "carve") < cut))
    if all(item.sealed for item in items):
        raise DropError(
            str(source),
            f"has {len(items)} held-out items, none of them for the gate",
            "give more items, or none to carve them from the drop",
        )
    return items


def _has_gold(item: Mapping[str, Any]) -> bool:
    questions, answer = item_texts(item)
    if "messages" in item:
        return bool("".join(questions).strip()) and bool(answer.strip())
    choices = item.get("choices")
    if choices is not None and not (isinstance(choices, list) and len(choices) >= 2 and all(isinstance(part, str) for part in choices)):
        return False
    return isinstance(item.get("prompt"), str) and bool(item["prompt"].strip()) and bool(answer.strip())


def _gold_is_context(item: Mapping[str, Any]) -> bool:
    turns = item.get("messages")
    return isinstance(turns, list) and bool(turns) and isinstance(turns[-1], Mapping) and is_context(turns[-1])


def write_supplied(items: Sequence[SuppliedItem], work: Path) -> dict[str, int]:
    """heldout.jsonl and sealed.jsonl; rows of each."""
    for name, sealed in (("heldout", False), ("sealed", True)):
        text = "".join(row_json(item.value) + "\n" for item in items if item.sealed is sealed)
        (work / f"{name}.jsonl").write_text(text, encoding="utf-8")
    sealed_rows = sum(item.sealed for item in items)
    return {"heldout": len(items) - sealed_rows, "sealed": sealed_rows}


def supplied_as_items(items: Sequence[SuppliedItem]) -> list[HeldoutItem]:
    """For the comparison with training rows."""
    return [heldout_item("held out", 0, item.value) for item in items]
