"""Further items of a learned skill are appended to a file that people edit too."""

from __future__ import annotations

import json
from pathlib import Path

from evals.config import SuiteConfig
from evals.suites.items import load_items
from flows.config.model import parse_config
from flows.lineage import VersionRef
from flows.text.added_items import add_items


def test_items_are_added_behind_a_last_line_that_an_editor_left_open(tmp_path: Path) -> None:
    """Two objects came to stand on one line, and every later round was refused."""
    more, new = tmp_path / "more.jsonl", tmp_path / "new.jsonl"
    more.write_text(json.dumps(_chat("Which desk answers a lost card?", "cards")))
    new.write_text(json.dumps(_chat("Which desk answers a late parcel?", "post")) + "\n")
    values = {"evaluation": {"skills": {"desks": {"more_items": "more.jsonl"}}}}
    taught = VersionRef(
        version=2, round=1, skill="desks", method="osft", decision="PASS", model_sha256="0" * 64, manifest_sha256="0" * 64,
        parent_version=1, checkpoint=tmp_path, run_id="", model_id="",
    )  # fmt: skip
    added = add_items(parse_config(values, where="test", folder=tmp_path), new, "desks", [taught], tmp_path / "unused.jsonl")
    assert (added.taken, added.items) == (1, 2)
    assert [item.answer for item in load_items(SuiteConfig(source=str(more)))] == ["cards", "post"]


def _chat(question: str, answer: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
