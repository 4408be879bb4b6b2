"""The fixed-size buffer: a uniform sample of all earlier rounds' examples that travels with the lineage.

Every row has a key drawn from its own content, and the rows with the smallest keys stay. That is a uniform sample without replacement of
everything ever offered, needs no count of it, and gives the same buffer whenever the same rounds are run again.

It has three readers: replay (`replay_share`), `rank_policy: importance`, and the subspace memory, which measures on it the earlier rounds
that it lacks (prepare.py: rounds trained under another protection, layers that were no targets).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_contracts.digests import canonical_json, text_digest
from data_contracts.files import write_atomically
from data_contracts.rendering import TextRenderer
from data_contracts.rows.jsonl import read_objects
from osft_engine.config import TrainConfig
from osft_engine.data.examples import Example, encode_row

# What a row is learned from: the fields of each form that the renderer reads. The first form that a row has is kept, and nothing else.
_FORMS = (("messages", "tools", "unmask"), ("prompt", "completion", "unmask"), ("text",), ("input_ids", "labels"))


@dataclass(frozen=True)
class BufferRow:
    key: str
    skill: str
    row: dict[str, Any]


def load_buffer(path: Path) -> tuple[BufferRow, ...]:
    """The rows of a buffer file. Empty ones are left out: older releases wrote one for all rows of token ids."""
    found = (BufferRow(str(row["key"]), str(row["skill"]), dict(row["row"])) for _, row in read_objects(path))
    return tuple(each for each in found if each.row)


def save_buffer(rows: Sequence[BufferRow], path: Path) -> None:
    # The keys stay in the order of the drop: a template prints tools and arguments as they come, and replay must read the same text.
    lines = (json.dumps({"key": each.key, "skill": each.skill, "row": each.row}, ensure_ascii=False) for each in rows)
    write_atomically(path, "".join(f"{line}\n" for line in lines))


def extend_buffer(
    rows: Sequence[BufferRow], new: Iterable[Mapping[str, Any]], *, skill: str, size: int, seed: int
) -> tuple[BufferRow, ...]:
    """The buffer after a round offered its rows: conversations, documents, or token ids with labels."""
    best = {each.key: each for each in rows}
    for row in new:
        kept = _kept(row)
        key = text_digest(f"{seed}\n{canonical_json(kept)}")
        best.setdefault(key, BufferRow(key, skill, kept))
    return tuple(best[key] for key in sorted(best)[:size])


def _kept(row: Mapping[str, Any]) -> dict[str, Any]:
    form = next((names for names in _FORMS if row.get(names[0]) is not None), ())
    return {name: row[name] for name in form if row.get(name) is not None}


def buffer_examples(rows: Sequence[BufferRow], renderer: TextRenderer, config: TrainConfig) -> tuple[Example, ...]:
    """The rows as training examples, in the buffer's order, without those that are too long or have nothing to learn.

    Raises RenderingError where a conversation meets a tokenizer without a chat template.
    """
    found = [
        example
        for index, each in enumerate(rows)
        for example in encode_row(renderer, each.row, f"buffer:{index + 1}", unmask=config.unmask, max_tokens=config.max_seq_len)
    ]
    return tuple(example for example in found if example.loss_tokens and len(example.ids) <= config.max_seq_len)
