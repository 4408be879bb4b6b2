"""Label balance: a labelling task is told from free answers, and what is dominant, rare or spelled in two ways is named."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from data_contracts.checks.balance import LabelBalance
from data_contracts.rows.findings import Batch, WholeDrop
from data_contracts.rows.records import Row

NO_ROWS = WholeDrop(bytearray(), (), lambda ordinal: {})


def _reasons(answers: Sequence[str], shape: str = "chat") -> list[str]:
    check = LabelBalance(dominant=0.8, rare=0.1)
    rows = [
        Row(line, shape, {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": answer}]})  # type: ignore[arg-type]
        for line, answer in enumerate(answers, 1)
    ]
    assert list(check.observe(Batch(rows, 0))) == []
    return [finding.reason for _, finding in check.conclude(NO_ROWS)]


def test_a_dominant_a_rare_and_a_twice_spelled_label_are_named() -> None:
    assert _reasons(["Yes"] * 45 + ["no"] * 4 + ["yes."]) == [
        "90.0% of the answers are 'Yes'",
        "2 of 3 answers are rare: 'no' (4), 'yes.' (1)",
        "one answer is spelled in 2 ways: 'Yes', 'yes.'",
    ]
    assert _reasons(["yes", "no"] * 20) == []


@pytest.mark.parametrize(
    "answers",
    [
        ["yes"] * 19,  # too few rows to say anything
        [f"answer {number}" for number in range(40)],  # as many answers as rows
        ["yes"] * 30 + ["a sentence of more than six words is no label"] * 10,
        ["yes"] * 100 + [f"other {number}" for number in range(250)],  # more than 200 answers: counting ends
    ],
)
def test_answers_that_are_no_labels_are_left_alone(answers: list[str]) -> None:
    assert _reasons(answers) == []


def test_the_summary_counts_labels_and_is_empty_where_there_are_none() -> None:
    check = LabelBalance(0.8, 0.01)
    assert check.summary() == {}
    rows = [
        Row(line, "chat", {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "ab"[line % 2]}]})
        for line in range(1, 22)
    ]
    list(check.observe(Batch(rows, 0)))
    assert check.summary() == {"labels": {"b": 11, "a": 10}}


def test_a_call_is_an_answer_and_a_turn_of_weight_0_is_none() -> None:
    def row(line: int) -> Row:
        call = {"id": f"call_{line}", "function": {"name": ("open", "close")[line % 2], "arguments": {}}}
        asked, thanks = {"role": "user", "content": "q"}, {"role": "assistant", "content": "thanks", "weight": 0}
        return Row(line, "chat", {"messages": [asked, {"role": "assistant", "tool_calls": [call]}, asked, thanks]})

    check = LabelBalance(0.8, 0.01)
    list(check.observe(Batch([row(line) for line in range(1, 22)], 0)))
    assert check.summary() == {"labels": {"close {}": 11, "open {}": 10}}
