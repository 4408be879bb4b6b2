"""What is right in a row, and what names an item: by the type of the value and by all that is rendered, whatever the row's keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_contracts.errors import EvaluationError
from evals.config import SuiteConfig
from evals.suites.items import load_items

Write = Callable[..., Path]


def _suite(path: Path, **fields: Any) -> SuiteConfig:
    return SuiteConfig(name="s", source=str(path), **fields)


# ------------------------------------------------------------------------------------------------ gold


def test_a_text_is_a_choice_and_an_integer_is_an_index(write_rows: Write) -> None:
    rows = [
        {"prompt": "legs of a dog", "choices": ["2", "3", "4", "5"], "answer": "4"},
        {"prompt": "the wall fell", "choices": ["1988", "1989"], "answer": "1989"},
        {"prompt": "legs of a cat", "choices": ["2", "3", "4", "5"], "answer": 2},
        {"prompt": "legs of a bird", "choices": ["2", "3", "4", "5"], "gold": 0},
    ]
    assert [item.answer for item in load_items(_suite(write_rows("s.jsonl", rows)))] == ["4", "1989", "4", "2"]


@pytest.mark.parametrize(
    ("template", "gold", "answer"),
    [
        ("{{ label }}", "1", "1"),
        ("{{ label }}", 1, "2"),
        ("{{ 1 if label == '2' else 0 }}", "2", "2"),
        ("{{ label[0] }}", ["2"], "2"),
        ("{% if label %}x{% else %}1{% endif %}", "yes", "x"),
    ],
)
def test_the_type_of_a_template_of_one_expression_counts(write_rows: Write, template: str, gold: Any, answer: str) -> None:
    row = {"q": "?", "choices": ["1", "2", "x"], "label": gold}
    (item,) = load_items(_suite(write_rows("s.jsonl", [row]), prompt="{{ q }}", gold=template))
    assert item.answer == answer


def test_a_printed_number_that_may_be_both_is_refused(write_rows: Write) -> None:
    row = {"q": "?", "choices": ["1", "2", "x"]}
    suite = _suite(write_rows("s.jsonl", [row]), prompt="{{ q }}", gold="{% if q %}1{% endif %}")
    with pytest.raises(EvaluationError, match=r"one \{\{ expression \}\}"):
        load_items(suite)


def test_a_static_gold_that_is_no_choice_is_an_index(write_rows: Write) -> None:
    (item,) = load_items(_suite(write_rows("s.jsonl", [{"prompt": "?"}]), choices=("Sure", "Sorry"), gold="1"))
    assert item.answer == "Sorry"


def test_an_answer_may_be_a_number_where_there_are_no_choices(write_rows: Write) -> None:
    assert load_items(_suite(write_rows("s.jsonl", [{"prompt": "2+2", "answer": 4}])))[0].answer == "4"


def test_a_row_that_ends_in_a_call_is_an_answer(write_rows: Write) -> None:
    call = {"type": "function", "function": {"name": "route", "arguments": {"team": "billing"}}}
    rows = [
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": None, "tool_calls": [call]}], "tools": [{"a": 1}]}
    ]
    (item,) = load_items(_suite(write_rows("s.jsonl", rows), chat=True))
    assert (item.kind, item.row()) == ("answer", rows[0])
    with pytest.raises(EvaluationError, match="plain prompt cannot ask"):
        load_items(_suite(write_rows("s.jsonl", rows)))


# ------------------------------------------------------------------------------------------------ identity
