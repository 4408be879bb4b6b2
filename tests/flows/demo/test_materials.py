"""The demo's drops and suites: answers follow from prompts, nothing held out is trained on, equal seeds write equal bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data_contracts.errors import ConfigError
from flows.demo.materials import calibration_rows, write_base_suites, write_drop
from flows.demo.skills import BASE_SKILLS, is_heldout
from flows.demo.story import NANO_STORY
from flows.demo.tokenizer import build_tokenizer
from flows.demo.train_nano import chat_row


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_chat_row_is_what_the_chat_template_makes() -> None:
    turns = [{"role": "user", "content": "copy kmp"}, {"role": "assistant", "content": "kmp"}]
    assert build_tokenizer().apply_chat_template(turns, tokenize=False) == "".join(chat_row("copy kmp", "kmp"))


def test_suites_hold_distinct_items_that_training_never_sees(tmp_path: Path) -> None:
    base = write_base_suites(tmp_path)
    assert set(base.suites) == set(BASE_SKILLS)
    for path in base.suites.values():
        prompts = [row["prompt"] for row in _rows(path)]
        assert len(set(prompts)) == len(prompts) >= 200
        assert all(is_heldout(prompt) for prompt in prompts)
    asked = [row["messages"][0]["content"] for row in calibration_rows() if "messages" in row]
    assert asked
    assert not any(is_heldout(prompt) for prompt in asked)


def test_the_same_seed_writes_the_same_drop(tmp_path: Path) -> None:
    first = write_drop("route", tmp_path / "a.jsonl", seed=5, rows=300).read_bytes()
    assert write_drop("route", tmp_path / "b.jsonl", seed=5, rows=300).read_bytes() == first
    assert write_drop("route", tmp_path / "c.jsonl", seed=6, rows=300).read_bytes() != first


@pytest.mark.parametrize("skill", [each.skill for each in NANO_STORY])
def test_a_drop_has_no_prompt_twice(tmp_path: Path, skill: str) -> None:
    rows = _rows(write_drop(skill, tmp_path / "drop.jsonl"))
    prompts = {row["messages"][0]["content"] for row in rows}
    assert len(prompts) == len(rows) >= 600


def test_a_skill_the_demo_does_not_have_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"juggling.*route"):
        write_drop("juggling", tmp_path / "drop.jsonl")
