"""Near duplicates: edited copies are found, different questions about one passage and different labels are not."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

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
