"""Held-out rows that come with the drop: checked for their shape and split into the gate's part and the sealed part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_contracts.config import ContractConfig
from data_contracts.errors import DropError
from data_contracts.jsonl import read_lines
from data_contracts.records import normal_text, row_json, text_key


def split_supplied(source: Path, work: Path, config: ContractConfig) -> dict[str, int]:
    """Write heldout.jsonl and sealed.jsonl from `source`; rows of each. Fails closed: one bad item refuses the file.

    The sealed part is sealed_fraction : heldout_fraction of the items, chosen by a stable hash of the item's prompt.
    """
    whole = config.heldout_fraction + config.sealed_fraction
    share = config.sealed_fraction / whole if whole > 0 else 0.0
    written = {"heldout": 0, "sealed": 0}
    with (work / "heldout.jsonl").open("w", encoding="utf-8") as gate, (work / "sealed.jsonl").open("w", encoding="utf-8") as sealed:
        for line in read_lines(source, max_line_bytes=config.max_line_bytes, max_depth=config.max_depth):
            if line.fault is not None or line.value is None:
                raise DropError(f"{source}:{line.number}", line.fault[1] if line.fault else "is not an object", "mend the held-out file")
            prompt = item_prompt(line.value, f"{source}:{line.number}")
            side = "sealed" if text_key(normal_text(prompt), "carve") < share * 2.0**64 else "heldout"
            (sealed if side == "sealed" else gate).write(row_json(line.value) + "\n")
            written[side] += 1
    if written["heldout"] == 0:
        raise DropError(str(source), "has no held-out items", "give a file with items, or none to carve them from the drop")
    return written


def item_prompt(item: dict[str, Any], where: str) -> str:
    """The question of a held-out item. Raises DropError where it is neither a chat row nor an item with a gold answer."""
    messages = item.get("messages")
    if isinstance(messages, list) and len(messages) >= 2 and all(isinstance(turn, dict) for turn in messages):
        if messages[-1].get("role") == "assistant" and str(messages[-1].get("content") or "").strip():
            return "\n".join(str(turn.get("content") or "") for turn in messages[:-1])
        raise DropError(where, "does not end with the assistant's answer", "end every held-out conversation with the gold answer")
    prompt, choices, gold = item.get("prompt"), item.get("choices"), item.get("gold")
    if isinstance(prompt, str) and prompt.strip():
        if isinstance(item.get("answer"), str) and item["answer"].strip():
            return prompt
        if isinstance(choices, list) and len(choices) >= 2 and type(gold) is int and 0 <= gold < len(choices):
            return prompt
    raise DropError(where, "is not a held-out item", 'write {"messages"}, {"prompt", "choices", "gold"} or {"prompt", "answer"}')
