"""Exact duplicates: the first of equal rows stays, spelling aside, and rows that an earlier check dropped are nobody's original."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from data_contracts.checks.duplicates import ExactDuplicates
from data_contracts.config import ContractConfig
from data_contracts.rows.findings import Batch, WholeDrop
from data_contracts.rows.records import Row, normal_row
from data_contracts.validate import validate_drop

LENIENT = ContractConfig(max_dropped_fraction=1.0)


def _row(line: int, answer: str) -> Row:
    return Row(line, "chat", {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": answer}]})


def _found(answers: list[str], alive: bytes) -> list[tuple[int, str, str]]:
    check = ExactDuplicates(())
    rows = [_row(10 + number, answer) for number, answer in enumerate(answers)]
    list(check.observe(Batch(rows[:2], 0)))
    list(check.observe(Batch(rows[2:], 2)))
    drop = WholeDrop(bytearray(alive), [row.line for row in rows], lambda ordinal: {})
    found = [(ordinal, finding.check, finding.reason) for ordinal, finding in check.conclude(drop)]
    assert check.summary() == {"exact_duplicates": {"within": len(found), "earlier": 0}}
    return found


def test_white_space_and_composed_letters_make_no_difference_and_case_does() -> None:
    answers = ["a  b", "a\nb", "caf\u00e9", "cafe\u0301", "A b"]
    assert _found(answers, b"\1\1\1\1\1") == [
        (1, "exact_duplicate", "says the same as line 10"),
        (3, "exact_duplicate", "says the same as line 12"),
    ]


def test_a_row_that_was_dropped_before_is_no_original() -> None:
    assert _found(["a", "a", "a"], b"\0\1\1") == [(2, "exact_duplicate", "says the same as line 11")]


def test_a_row_of_an_earlier_round_is_named_by_its_skill(
    good_lines: list[bytes], chat: Callable[[str, str], str], write_drop: Callable[..., Path], tmp_path: Path
) -> None:
    validate_drop(write_drop(good_lines), tmp_path / "first", skill="first", config=LENIENT)
    again = json.loads((tmp_path / "first" / "clean.jsonl").read_text().splitlines()[0])["messages"]
    rows = [chat(f"Name number {number}", f"it is {number * 37}") for number in range(40)]
    drop = write_drop([*rows, chat(again[0]["content"], again[1]["content"])], "second.jsonl")
    validate_drop(drop, tmp_path / "second", skill="second", config=LENIENT, earlier=[tmp_path / "first"])
    [record] = [json.loads(line) for line in (tmp_path / "second" / "quarantine.jsonl").read_text().splitlines()]
    assert record["line"] == 41
    assert {"check": "seen_before", "reason": "says the same as a row of the earlier skill 'first'"} in record["findings"]


def test_calls_without_words_are_compared_by_the_calls() -> None:
    """A call without words is a turn of two fields, as most turns are."""

    def row(line: int, city: str) -> Row:
        call = {"type": "function", "function": {"name": "book", "arguments": {"to": city}}}
        turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": None, "tool_calls": [call]}]
        return normal_row(line, "chat", {"messages": turns})

    check = ExactDuplicates(())
    list(check.observe(Batch([row(1, "Rome"), row(2, "Paris"), row(3, "Rome")], 0)))
    found = list(check.conclude(WholeDrop(bytearray(b"\1\1\1"), [1, 2, 3], lambda ordinal: {})))
    assert [(ordinal, finding.reason) for ordinal, finding in found] == [(2, "says the same as line 1")]
