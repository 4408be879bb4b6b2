"""What is right in a row, and what names an item: by the type of the value and by all that is rendered, whatever the row's keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_contracts.errors import EvaluationError
from evals.config import SuiteConfig
from evals.suites.items import load_items, prompting_digest, suite_digest
from evals.suites.scoring_code import source_meaning

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

OWN_KEYS = {"prompt": "{{ question }}"}


def _parity(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"question": f"is {n} even", "choices": ["yes", "no"], "answer": "no" if n % 2 else "yes", **fields} for n in range(count)]


def test_different_questions_under_keys_of_their_own_are_different_items(write_rows: Write) -> None:
    items = load_items(_suite(write_rows("s.jsonl", _parity(40)), **OWN_KEYS))
    assert len({item.doc_hash for item in items}) == 40


def test_every_rendered_part_is_in_the_identity(write_rows: Write) -> None:
    own = {"prompt": "{{ q }}", "gold": "{{ right }}", "cluster": "{{ passage }}"}
    row = {"q": "is 0 even", "choices": ["yes", "no"], "right": "yes", "passage": "p", "tools": [{"type": "function"}], "subject": "art"}
    changes: list[dict[str, Any]] = [{"q": "is 2 even"}, {"choices": ["yes", "nay"]}, {"right": "no"}, {"passage": "r"}, {"tools": []}]
    suite = _suite(write_rows("s.jsonl", [row, *({**row, **change} for change in changes)]), **own)
    assert len({item.doc_hash for item in load_items(suite)}) == 1 + len(changes)
    tagged = _suite(write_rows("t.jsonl", [{**row, "subject": "music"}]), **own)
    assert load_items(tagged)[0].doc_hash == load_items(suite)[0].doc_hash, "what is not rendered may change"


def test_reasoning_and_calls_of_a_turn_are_in_the_identity(write_rows: Write) -> None:
    def row(**last: Any) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "5", **last}]}

    rows = [row(), row(reasoning_content="2 and 3"), row(reasoning_content="1 and 4"), row(tool_calls=[{"function": {"name": "f"}}])]
    assert len({item.doc_hash for item in load_items(_suite(write_rows("s.jsonl", rows), chat=True))}) == 4


def test_equal_questions_are_still_one_item(write_rows: Write) -> None:
    with pytest.raises(EvaluationError, match="the same item twice"):
        load_items(_suite(write_rows("s.jsonl", _parity(3) + _parity(1, note="again")), **OWN_KEYS))


def test_a_newer_scorer_never_meets_an_old_score(write_rows: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = _suite(write_rows("s.jsonl", _parity(3)), **OWN_KEYS)
    items = load_items(suite)
    before = prompting_digest(suite), suite_digest(suite, items)
    monkeypatch.setattr("evals.suites.items.scoring_digest", lambda: "a newer scorer")
    after = prompting_digest(suite), suite_digest(suite, items)
    assert before[0] != after[0], "the item cache is keyed by it"
    assert before[1] != after[1], "the gate compares it"


def test_words_about_the_code_are_not_the_code() -> None:
    code = 'def f(x):\n    """Says one thing."""\n    return x + 1  # so\n'
    assert source_meaning(code) == source_meaning('"""A module."""\n\n\ndef f(x):\n    """Says another."""\n    return x + 1\n')
    assert source_meaning(code) != source_meaning(code.replace("+ 1", "+ 2"))


def test_lines_end_with_a_line_feed_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_bytes("\ufeff".encode() + '{"prompt": "a\u2028b\u0085c", "answer": "d\u2029e"}\n'.encode())
    (item,) = load_items(_suite(path))
    assert (item.prompt, item.answer) == ("a\u2028b\u0085c", "d\u2029e")
