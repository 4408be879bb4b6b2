"""Carving: a row's side is a property of its content, limits in rows hold, rows about one passage stay together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.config import ContractConfig
from data_contracts.drop.carve import Side, carve_keys, choose_cuts, place_keys, sides_of
from data_contracts.rows.records import Row
from data_contracts.validate import validate_drop

FREE = ContractConfig(heldout_min_rows=0, sealed_min_rows=0, max_dropped_fraction=1.0)
KEYS = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=400, unique=True)


@given(KEYS, st.integers(0, 60), st.integers(0, 30))
def test_limits_in_rows_hold_and_only_the_cuts_move(keys: list[int], least: int, least_sealed: int) -> None:
    config = ContractConfig(heldout_min_rows=least, sealed_min_rows=least_sealed, heldout_max_rows=80, sealed_max_rows=40)
    values = np.array(keys, np.uint64)
    sides = sides_of(values, choose_cuts(values, config))
    counts = np.bincount(sides, minlength=3)
    assert min(least, len(keys) // 4) <= counts[Side.HELDOUT] <= 80
    assert counts[Side.SEALED] <= 40
    order = np.argsort(values.astype(np.float64), kind="stable")
    ranked = [{Side.HELDOUT: 0, Side.SEALED: 1, Side.TRAIN: 2}[Side(side)] for side in sides[order]]
    assert ranked == sorted(ranked)


@given(KEYS, KEYS)
def test_without_limits_a_key_has_its_side_in_any_company(keys: list[int], others: list[int]) -> None:
    alone = np.array(keys, np.uint64)
    together = np.array(keys + others, np.uint64)
    assert (sides_of(alone, choose_cuts(alone, FREE)) == sides_of(together, choose_cuts(together, FREE))[: len(keys)]).all()


@given(st.floats(0, 0.5), st.floats(0, 0.5))
def test_shares_are_what_was_asked_for(heldout: float, sealed: float) -> None:
    values = np.random.default_rng(5).integers(0, 2**64, 20_000, dtype=np.uint64)
    config = FREE.model_copy(
        update={"heldout_fraction": heldout, "sealed_fraction": sealed, "heldout_max_rows": 10**6, "sealed_max_rows": 10**6}
    )
    shares = np.bincount(sides_of(values, choose_cuts(values, config)), minlength=3) / len(values)
    assert shares[Side.HELDOUT] == pytest.approx(heldout, abs=0.015)
    assert shares[Side.SEALED] == pytest.approx(sealed, abs=0.015)


def test_a_row_lands_on_the_same_side_next_month(
    chat: Callable[[str, str], str], prose: Callable[[int, int], str], write_drop: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [chat(prose(seed, 40), prose(9000 + seed, 10)) for seed in range(400)]
    validate_drop(write_drop(rows[:300], "may.jsonl"), tmp_path / "may", skill="notes", config=FREE)
    validate_drop(write_drop(rows[:100:-1], "june.jsonl"), tmp_path / "june", skill="notes", config=FREE)
    for split in ("heldout", "sealed"):
        may, june = (set((tmp_path / month / f"{split}.jsonl").read_text().splitlines()) for month in ("may", "june"))
        both = {json.dumps(json.loads(row)) for row in rows[101:300]}
        assert may & both == june & both
        assert may & both


def _row(prompt: str, answer: str = "yes") -> Row:
    return Row(1, "chat", {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]})


def test_the_answer_and_the_id_do_not_move_a_row() -> None:
    assert carve_keys(_row("Which one is blue?", "this")) == carve_keys(_row("Which  one is\nblue?", "that"))


def test_questions_about_one_passage_share_a_key_and_an_instruction_does_not_make_one(prose: Callable[[int, int], str]) -> None:
    passage = prose(1, 50)
    first, second = carve_keys(_row(f"{passage}\nWho?")), carve_keys(_row(f"{passage}\nWhere?"))
    assert first[0] == second[0]
    assert first[1] != second[1]
    few = place_keys(np.array([first[0], second[0], 1, 2], np.uint64), np.array([first[1], second[1], 1, 2], np.uint64))
    assert few[0] == few[1]
    many = place_keys(np.full(100, first[0], np.uint64), np.arange(100, dtype=np.uint64))
    assert len(set(many.tolist())) == 100


def test_a_drop_of_documents_is_carved_and_documents_beside_conversations_are_not(
    good_lines: list[bytes], prose: Callable[[int, int], str], write_drop: Callable[..., Path], tmp_path: Path
) -> None:
    documents = [json.dumps({"text": prose(seed, 50)}).encode() for seed in range(7000, 7100)]
    manifest = validate_drop(write_drop(documents, "documents.jsonl"), tmp_path / "documents", skill="texts", config=ContractConfig())
    assert manifest.rows_heldout > 0
    validate_drop(write_drop([*good_lines, *documents]), tmp_path / "mixed", skill="texts", config=ContractConfig())
    held = (tmp_path / "mixed" / "heldout.jsonl").read_text() + (tmp_path / "mixed" / "sealed.jsonl").read_text()
    assert '"text"' not in held
    assert '"messages"' in held


@pytest.mark.parametrize("greeting", [False, True])
def test_no_training_row_goes_on_from_a_held_out_conversation(
    greeting: bool, prose: Callable[[int, int], str], write_drop: Callable[..., Path], tmp_path: Path
) -> None:
    """Of a drop with one row for each answer of a conversation, as chat logs are exported, a longer row teaches a shorter one's answer."""
    lines = []
    for talk in range(40):
        turns: list[dict[str, str]] = []
        for number in range(6):
            asked = "Hello there, my friend" if greeting and number == 0 else prose(100 * talk + number, 4)
            turns += [{"role": "user", "content": asked}, {"role": "assistant", "content": prose(50_000 + 100 * talk + number, 3)}]
            lines.append(json.dumps({"messages": turns}))
    validate_drop(write_drop(lines), tmp_path / "out", skill="talk", config=ContractConfig(max_dropped_fraction=1.0))
    read = {
        name: [json.loads(line)["messages"] for line in (tmp_path / "out" / f"{name}.jsonl").read_text().splitlines()]
        for name in ("clean", "heldout", "sealed")
    }
    held = read["heldout"] + read["sealed"]
    assert len(held) >= 15
    assert not [row for row in held if any(trained[: len(row)] == row for trained in read["clean"])]
    if not greeting:
        assert sum(map(len, read.values())) == len(lines), "a conversation lies on one side, so that no row is lost"


@pytest.mark.parametrize("others", [0, 80])
def test_a_row_whose_last_answer_is_not_learned_is_never_held_out(
    others: int, good_lines: list[bytes], prose: Callable[[int, int], str], write_drop: Callable[..., Path], tmp_path: Path
) -> None:
    lines: list[str | bytes] = []
    for talk in range(80):
        turns = [{"role": role, "content": prose(100 * talk + place, 12)} for place, role in enumerate(["user", "assistant"] * 2)]
        lines.append(json.dumps({"messages": [turns[0], {**turns[1], "weight": 1}, turns[2], {**turns[3], "weight": 0}]}))
    if others:
        lines += good_lines
    manifest = validate_drop(write_drop(lines), tmp_path / "out", skill="talk", config=ContractConfig())
    held = [json.loads(line) for name in ("heldout", "sealed") for line in (tmp_path / "out" / f"{name}.jsonl").read_text().splitlines()]
    assert not [row for row in held if row["messages"][-1].get("weight") == 0]
    assert bool(held) == bool(others)
    assert (manifest.rows_clean + len(held), manifest.rows_quarantined) == (len(lines), 0)
    [note] = [
        example["reason"]
        for finding in json.loads((tmp_path / "out" / "report.json").read_text())["findings"]
        if finding["check"] == "heldout_size"
        for example in finding["examples"]
        if "weight" in example["reason"]
    ]
    assert note.startswith(f"80 of {len(lines)} rows end with an answer of weight 0, which is not learned: they stay in training")
    assert ("--heldout" in note) == (not others)
