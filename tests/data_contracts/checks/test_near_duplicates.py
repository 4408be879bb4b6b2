"""Near duplicates: edited copies are found, different questions about one passage and different labels are not."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_contracts.checks.near_duplicates import row_text
from data_contracts.config import ContractConfig
from data_contracts.manifests import DropManifest
from data_contracts.validate import validate_drop

LENIENT = ContractConfig(max_dropped_fraction=1.0)
Chat = Callable[[str, str], str]
Prose = Callable[[int, int], str]


def edited(text: str, share: float, seed: int) -> str:
    source = random.Random(seed)
    words = text.split()
    for place in source.sample(range(len(words)), round(share * len(words))):
        words[place] = f"changed{source.randrange(1000)}"
    return " ".join(words)


def found(out: Path, check: str) -> list[tuple[int, str]]:
    report = json.loads((out / "report.json").read_text())
    return [
        (example["line"], example["reason"])
        for finding in report["findings"]
        if finding["check"] == check
        for example in finding["examples"]
    ]


def counts(manifest: DropManifest) -> dict[str, int]:
    return {finding.check: finding.rows for finding in manifest.findings}


def test_copies_with_a_tenth_of_their_words_edited_are_found(
    chat: Chat, prose: Prose, write_drop: Callable[..., Path], tmp_path: Path
) -> None:
    originals = [chat(prose(seed, 60), prose(1000 + seed, 20)) for seed in range(100)]
    copies = [chat(edited(prose(seed, 60), 0.1, seed), edited(prose(1000 + seed, 20), 0.1, seed)) for seed in range(100)]
    manifest = validate_drop(write_drop([*originals, *copies]), tmp_path / "out", skill="notes", config=LENIENT)
    assert counts(manifest)["near_duplicate"] >= 98
    assert found(tmp_path / "out", "near_duplicate")[0] == (101, "says nearly the same as line 1")


def test_rows_under_one_long_instruction_are_not_alike(chat: Chat, prose: Prose, write_drop: Callable[..., Path], tmp_path: Path) -> None:
    instruction = "Decide which of the following kinds the text belongs to. " + prose(77, 60)
    rows = [chat(f"{instruction}\n{prose(seed, 20)}", "yes") for seed in range(200)]
    manifest = validate_drop(write_drop(rows), tmp_path / "out", skill="notes", config=LENIENT)
    assert "near_duplicate" not in counts(manifest)
    assert "heldout_overlap" not in counts(manifest)


def test_questions_about_one_passage_are_not_alike(chat: Chat, prose: Prose, write_drop: Callable[..., Path], tmp_path: Path) -> None:
    rows = [chat(f"{prose(seed // 4, 120)}\nquestion: {prose(500 + seed, 12)}?", "no") for seed in range(200)]
    manifest = validate_drop(write_drop(rows), tmp_path / "out", skill="notes", config=LENIENT)
    assert "near_duplicate" not in counts(manifest)


def test_the_same_question_with_another_label_stays_and_is_named(
    chat: Chat, prose: Prose, write_drop: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [chat(prose(seed, 40), "yes") for seed in range(100)]
    rows += [chat(edited(prose(seed, 40), 0.05, seed), "no") for seed in range(10)]
    manifest = validate_drop(write_drop(rows), tmp_path / "out", skill="notes", config=LENIENT)
    assert counts(manifest)["contrary_answer"] == 10
    assert manifest.rows_quarantined == counts(manifest).get("heldout_overlap", 0)


def test_the_first_of_a_chain_of_copies_stays(chat: Chat, prose: Prose, write_drop: Callable[..., Path], tmp_path: Path) -> None:
    rows = [chat(prose(seed, 60), prose(900 + seed, 20)) for seed in range(300)]
    rows += [chat(edited(prose(3, 60), 0.04, seed), prose(903, 20)) for seed in range(12)]
    manifest = validate_drop(write_drop(rows), tmp_path / "out", skill="notes", config=LENIENT)
    assert manifest.rows_read - manifest.rows_quarantined == 300
    assert {reason for _, reason in found(tmp_path / "out", "near_duplicate") + found(tmp_path / "out", "exact_duplicate")} == {
        "says nearly the same as line 4"
    }


@pytest.mark.parametrize("split", ["clean", "heldout", "sealed"])
def test_a_row_of_an_earlier_round_is_seen_again(
    split: str, chat: Chat, prose: Prose, write_drop: Callable[..., Path], tmp_path: Path
) -> None:
    first = write_drop([chat(prose(seed, 60), prose(700 + seed, 20)) for seed in range(150)], "first.jsonl")
    validate_drop(first, tmp_path / "first", skill="first", config=LENIENT)
    old = [json.loads(line)["messages"] for line in (tmp_path / "first" / f"{split}.jsonl").read_text().splitlines()]
    again = [
        chat(old[0][0]["content"], old[0][1]["content"]),
        chat(edited(old[1][0]["content"], 0.1, 5), edited(old[1][1]["content"], 0.1, 5)),
    ]
    second = write_drop([*again, *(chat(prose(seed, 60), prose(800 + seed, 20)) for seed in range(2000, 2100))], "second.jsonl")
    validate_drop(second, tmp_path / "second", skill="second", config=LENIENT, earlier=[tmp_path / "first"])
    quarantine = [json.loads(line) for line in (tmp_path / "second" / "quarantine.jsonl").read_text().splitlines()]
    assert [record["line"] for record in quarantine] == [1, 2]
    checks = {finding["check"] for record in quarantine for finding in record["findings"]}
    assert checks <= {"seen_before", "contamination"}
    if split == "clean":
        assert [line for line, _ in found(tmp_path / "second", "seen_before")] == [1, 2]


def asked(question: str, **answer: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", **answer}]}


def book(city: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "book_trip", "arguments": {"city": city, "travellers": 2, "class": "economy"}}}


@pytest.mark.parametrize("form", ["text", "call", "call in JSON text", "words and call"])
def test_a_slot_that_decides_the_call_is_no_copy(form: str, prose: Prose, write_drop: Callable[..., Path], tmp_path: Path) -> None:
    def answer(number: int, city: str) -> dict[str, Any]:
        call = {**book(city), "id": f"call_{number}"}
        if form == "text":
            return {"content": json.dumps(call["function"])}
        if form == "call in JSON text":
            call["function"] = {**call["function"], "arguments": json.dumps(call["function"]["arguments"])}
        return {"content": "I book it." if form == "words and call" else None, "tool_calls": [call]}

    rows = [
        json.dumps(asked(f"{prose(seed, 30)}. With all this in mind, book the trip to {city} for me", **answer(2 * seed + place, city)))
        for seed in range(80)
        for place, city in enumerate(["Rome", "Paris"])
    ]
    config = ContractConfig(max_dropped_fraction=1.0, heldout_fraction=0.0, sealed_fraction=0.0)
    manifest = validate_drop(write_drop(rows), tmp_path / "out", skill="trips", config=config)
    assert (manifest.rows_quarantined, manifest.rows_clean) == (0, 160)
    assert "near_duplicate" not in counts(manifest)
    assert "''" not in json.dumps(found(tmp_path / "out", "label_balance"))


def test_one_question_with_other_calls_stays_and_a_copy_with_the_same_call_is_found(
    prose: Prose, write_drop: Callable[..., Path], tmp_path: Path
) -> None:
    """The id of a call is new in every row, so that it makes no difference."""

    def call(seed: int, number: int) -> list[dict[str, Any]]:
        words = {name: prose(5000 + seed, 3) for name in ("subject", "body", "to")}
        return [{"id": f"call_{number}", "type": "function", "function": {"name": f"send_{seed % 7}", "arguments": words}}]

    rows = [asked(prose(seed, 40), content=None, tool_calls=call(seed, seed)) for seed in range(100)]
    rows += [asked(prose(seed, 40), content=None, tool_calls=call(seed + 1000, 100 + seed)) for seed in range(10)]  # other calls
    copies = [(seed, edited(prose(seed, 40), 0.05, seed)) for seed in range(20, 30)]
    rows += [asked(question, content=None, tool_calls=call(seed, 200 + seed)) for seed, question in copies]
    config = LENIENT.model_copy(update={"heldout_fraction": 0.0, "sealed_fraction": 0.0})
    manifest = validate_drop(write_drop([json.dumps(row) for row in rows]), tmp_path / "out", skill="mail", config=config)
    assert {line for line, _ in found(tmp_path / "out", "near_duplicate")} == set(range(111, 121))
    assert manifest.rows_quarantined == 10


def test_the_shown_text_of_a_pair_has_its_calls() -> None:
    assert row_text(asked("book it", content=None, tool_calls=[book("Rome")])) == (
        'book it -> book_trip {"city": "Rome", "class": "economy", "travellers": 2}'
    )


def conversation(prose: Prose, seed: int, learned: int) -> dict[str, Any]:
    """Two questions with their answers, of which one is learned."""
    turns: list[dict[str, Any]] = []
    for place in range(2):
        turns += [
            {"role": "user", "content": prose(100 * seed + place, 15)},
            {"role": "assistant", "content": prose(50_000 + 100 * seed + place, 8), "weight": int(place == learned)},
        ]
    return {"messages": turns}


FRAMES: dict[str, Callable[[Prose, int, int], dict[str, Any]]] = {
    "weight": conversation,
    "tools": lambda prose, seed, one: {
        **asked(prose(seed, 40), content=prose(50_000 + seed, 10)),
        "tools": [{"type": "function", "function": {"name": "look_up", "parameters": {"required": ["query" if one else "key"]}}}],
    },
    "unmask": lambda prose, seed, one: {**asked(prose(seed, 40), content=prose(50_000 + seed, 10)), "unmask": bool(one)},
}


@pytest.mark.parametrize("kind", FRAMES)
def test_rows_that_differ_in_what_is_learned_or_in_their_tools_are_no_copies(
    kind: str, prose: Prose, write_drop: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [json.dumps(FRAMES[kind](prose, seed, one)) for seed in range(60) for one in (1, 0)]
    config = ContractConfig(max_dropped_fraction=1.0, heldout_fraction=0.0, sealed_fraction=0.0)
    manifest = validate_drop(write_drop(rows), tmp_path / "out", skill="talk", config=config)
    assert (manifest.rows_clean, manifest.rows_quarantined) == (120, 0)
    twice = [*rows[:30], *rows[:30:2]]
    manifest = validate_drop(write_drop(twice, "twice.jsonl"), tmp_path / "twice", skill="talk", config=config)
    assert counts(manifest)["exact_duplicate"] == 15


def test_a_label_that_is_learned_before_the_last_turn_decides(prose: Prose, write_drop: Callable[..., Path], tmp_path: Path) -> None:
    """What follows the last answer that is learned teaches nothing, so that it makes no copy of a row."""
    tail = [{"role": "user", "content": "Thank you."}, {"role": "assistant", "content": "With pleasure.", "weight": 0}]
    rows = []
    for seed in range(80):
        for label in ("yes", "no"):
            first = asked(edited(prose(seed, 40), 0.05, seed) if label == "no" else prose(seed, 40), content=label)
            rows.append(json.dumps({"messages": [*first["messages"], *tail]}))
    manifest = validate_drop(write_drop(rows), tmp_path / "out", skill="labels", config=LENIENT)
    assert counts(manifest)["contrary_answer"] == 80
    assert "near_duplicate" not in counts(manifest)
