"""From rows of a JSONL file to items: questions, right answers, worked examples, digests, and errors that name the place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_contracts.config import ContractConfig
from data_contracts.drop.supplied import read_supplied
from data_contracts.errors import EvaluationError
from evals.config import SuiteConfig
from evals.suites.items import load_items, prompting_digest, select_items, suite_digest

Write = Callable[..., Path]
Rows = list[dict[str, Any]]


def test_a_limit_is_a_sample_that_a_larger_limit_contains(write_rows: Write, choice_rows: Rows) -> None:
    items = load_items(SuiteConfig(source=str(write_rows("c.jsonl", choice_rows))))
    few, more = select_items(items, 5), select_items(items, 11)
    assert (len(few), len(more)) == (5, 11)
    assert {item.doc_hash for item in few} <= {item.doc_hash for item in more}
    assert [item for item in items if item in more] == more, "in the order of the file"
    assert few != items[:5], "not just the beginning, which may be sorted by class"


def test_what_names_an_item_is_its_content_and_nothing_else(write_rows: Write, choice_rows: Rows) -> None:
    suite = SuiteConfig(name="c", source=str(write_rows("c.jsonl", choice_rows)))
    tagged = SuiteConfig(name="c", source=str(write_rows("d.jsonl", [{**row, "subject": "art"} for row in choice_rows])))
    assert [item.doc_hash for item in load_items(suite)] == [item.doc_hash for item in load_items(tagged)]
    changed = SuiteConfig(name="c", source=str(write_rows("e.jsonl", [{**row, "gold": (row["gold"] + 1) % 4} for row in choice_rows])))
    assert not {item.doc_hash for item in load_items(suite)} & {item.doc_hash for item in load_items(changed)}


@pytest.mark.parametrize(
    "change",
    [
        {"chat": True}, {"prompt": "Q: {{ prompt }}"}, {"separator": ""}, {"few_shot": 1}, {"metric": "acc_norm"},
        {"answer_pattern": "[0-9]+"}, {"ignore_case": True}, {"max_new_tokens": 3}, {"open_choices": True}, {"score_reasoning": True},
        {"ignore_pattern": ","}, {"stop": ("!",)}, {"gold": "{{ gold }}"}, {"cluster": "{{ prompt }}"}, {"choices": ("a", "b")},
    ],
    ids=str,
)  # fmt: skip
def test_what_decides_the_prompt_is_in_the_suites_digest(write_rows: Write, choice_rows: Rows, change: dict[str, Any]) -> None:
    suite = SuiteConfig(source=str(write_rows("c.jsonl", choice_rows)))
    other = suite.model_copy(update=change)
    assert prompting_digest(suite) != prompting_digest(other)
    assert suite_digest(suite, load_items(suite)) == suite_digest(suite.model_copy(update={"margin": 0.1}), load_items(suite))


def test_worked_examples_come_first_and_are_not_evaluated(write_rows: Write, answer_rows: Rows) -> None:
    items = load_items(SuiteConfig(source=str(write_rows("a.jsonl", answer_rows)), few_shot=2, prompt="Q: {{ prompt }}"))
    assert len(items) == len(answer_rows) - 2
    assert items[0].prompt == "Q: 0 plus 0 is 0\n\nQ: 1 plus 1 is 2\n\nQ: 2 plus 2 is"
    assert [turn["role"] for turn in items[0].turns] == ["user", "assistant"] * 2 + ["user"]


def test_other_worked_examples_are_another_suite(write_rows: Write, answer_rows: Rows) -> None:
    source, shots = str(write_rows("a.jsonl", answer_rows)), write_rows("shots.jsonl", [{"prompt": "1 plus 2 is", "answer": "3"}])
    suite = SuiteConfig(source=source, few_shot=1, few_shot_source=str(shots))
    before = prompting_digest(suite)
    assert before == prompting_digest(suite)
    write_rows("shots.jsonl", [{"prompt": "2 plus 2 is", "answer": "4"}])
    assert prompting_digest(suite) != before


def test_other_rows_as_worked_examples_are_another_suite(write_rows: Write, answer_rows: Rows) -> None:
    rows = [{**row, "level": number} for number, row in enumerate(answer_rows)]
    every = SuiteConfig(source=str(write_rows("a.jsonl", rows)), few_shot=1, where="level >= 0")
    later = every.model_copy(update={"where": "level >= 2"})
    assert load_items(every)[-1].doc_hash == load_items(later)[-1].doc_hash
    assert load_items(every)[-1].prompt != load_items(later)[-1].prompt, "another row is the worked example"
    assert prompting_digest(every) != prompting_digest(later)


@pytest.mark.parametrize("chat", [False, True])
def test_a_worked_example_is_no_item(write_rows: Write, answer_rows: Rows, chat: bool) -> None:
    again = _suite(write_rows("again.jsonl", [*answer_rows, answer_rows[0]]), few_shot=1, chat=chat)
    own = _suite(write_rows("own.jsonl", answer_rows), few_shot=2, few_shot_source=str(write_rows("own.jsonl", answer_rows)), chat=chat)
    for suite, left in ((again, len(answer_rows) - 1), (own, len(answer_rows) - 2)):
        with pytest.raises(EvaluationError, match=r"asks \d of its worked examples as items too, the first of them '0 plus 0 is'"):
            load_items(suite)
        items = load_items(suite.model_copy(update={"duplicates": "drop"}))
        assert len(items) == left
        assert not [item for item in items if item.prompt.count(f"{item.prompt.splitlines()[-1]} ") > 0], "no prompt holds its answer"


def test_a_choice_question_that_is_asked_of_other_choices_is_an_item_of_its_own(write_rows: Write) -> None:
    rows = [{"prompt": "Which is red?", "choices": [f"apple {n}", f"sky {n}"], "gold": 0} for n in range(4)]
    assert len(load_items(_suite(write_rows("s.jsonl", rows), few_shot=1))) == 3


def test_a_text_is_a_question_where_the_suite_or_the_row_says_what_the_answer_is(write_rows: Write) -> None:
    rows = [{"text": f"review {n}", "label": n % 2} for n in range(4)]
    source = write_rows("s.jsonl", rows)
    items = load_items(_suite(source, prompt="{{ text }}", choices=("bad", "good"), gold="{{ label }}"))
    assert [(item.kind, item.prompt, item.answer) for item in items[:2]] == [("choice", "review 0", "bad"), ("choice", "review 1", "good")]
    assert {item.kind for item in load_items(_suite(source, metric="bits_per_byte"))} == {"text"}
    for fields in ({"choices": ("bad", "good")}, {"gold": "{{ label }}"}, {"metric": "acc"}):
        with pytest.raises(EvaluationError, match=r"does not fit the template '\{\{ prompt \}\}'"):
            load_items(_suite(source, **fields))
    for answer in ({"answer": "good"}, {"choices": ["bad", "good"], "gold": 1}):
        with pytest.raises(EvaluationError, match=r"does not fit the template '\{\{ prompt \}\}'"):
            load_items(_suite(write_rows("a.jsonl", [{"text": "review", **answer}])))


def test_rows_of_another_shape_are_fitted_by_templates(write_rows: Write) -> None:
    path = write_rows("x.jsonl", [{"prompt": f"p{n}", "safe": n % 2 == 0} for n in range(6)])
    suite = SuiteConfig(source=str(path), where="not safe", choices=("yes", "no"), gold="{{ 0 if safe else 1 }}", cluster="{{ prompt }}")
    items = load_items(suite)
    assert [(item.prompt, item.answer, item.cluster) for item in items] == [("p1", "no", "p1"), ("p3", "no", "p3"), ("p5", "no", "p5")]


def test_a_pattern_of_files_is_one_suite(write_rows: Write, choice_rows: Rows, tmp_path: Path) -> None:
    write_rows("m/b.jsonl", choice_rows[:3])
    write_rows("m/a.jsonl", choice_rows[3:5])
    assert len(load_items(SuiteConfig(name="m", source=str(tmp_path / "m" / "*.jsonl")))) == 5


def _row(**fields: Any) -> str:
    return json.dumps(fields)


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ([], "has no items"),
        (["", "  "], "has no items"),
        ([_row(prompt="p", answer="a"), "{"], r":2: is not JSON"),
        (["[1]"], "is one JSON array"),
        ([_row(prompt="p", answer="a")] * 2, "the same item twice"),
        ([_row(prompt="p")], "no answer"),
        ([_row(prompt="", answer="a")], "empty prompt"),
        ([_row(text="")], "empty text"),
        ([_row(prompt="p", choices=["a", "b"], gold=2)], "gold 2 is not one of the 2 choices"),
        ([_row(prompt="p", choices=["a", "b"], gold=-1)], "gold -1 is not one"),
        ([_row(prompt="p", choices=["a", "b"], gold="1")], "gold '1' is not one of the 2 choices"),
        ([_row(prompt="p", choices=[1, 2, 3], gold=1)], "may be a choice or its index"),
        ([_row(prompt="p", choices=["a", None], gold=0)], "has the choices"),
        ([_row(prompt="p", choices=["a", "b"], gold=True)], "gold True is not one"),
        ([_row(prompt="p", answer=["a", "b"])], "has the answer"),
        ([_row(prompt=None, answer="a")], "null"),
        ([_row(messages=[{"role": "user", "content": "q"}, {"role": "assistant", "content": ""}])], "has no answer"),
        ([_row(messages=["q", "a"])], "no list of turns"),
        ([_row(prompt="p", choices=["a", "a"], gold=0)], "has the choices"),
        ([_row(prompt="p", choices=["a"], gold=0)], "has the choices"),
        ([_row(messages=[{"role": "user", "content": "q"}])], "does not end with an assistant turn"),
        (
            [_row(messages=[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0}])],
            "bad.jsonl:1: has a gold answer of weight 0, which is context and not learned",
        ),
        ([_row(question="q", answer="a")], "does not fit the template"),
        ([_row(prompt="p", answer="a"), _row(text="t")], "mixes items"),
    ],
)
def test_bad_files_end_with_a_reason_that_names_the_place(tmp_path: Path, lines: list[str], what: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text("".join(line + "\n" for line in lines))
    with pytest.raises(EvaluationError, match=what) as caught:
        load_items(SuiteConfig(source=str(path)))
    assert str(path) in str(caught.value)
    assert caught.value.way_out


def test_the_way_out_of_an_answer_of_weight_0_is_one(write_rows: Write) -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    rows = [{"messages": turns}, {"messages": [*turns, turns[0], {**turns[1], "weight": 0}]}, {"messages": [*turns, *turns]}]
    suite = _suite(write_rows("s.jsonl", rows), chat=True)
    with pytest.raises(EvaluationError) as caught:
        load_items(suite)
    way_out = caught.value.way_out
    where = way_out[way_out.index("where: ") + 7 :].strip("`")
    assert [len(item.turns) for item in load_items(suite.model_copy(update={"where": where}))] == [1, 3]


def test_what_a_drop_takes_as_its_held_out_items_is_a_suite(write_rows: Write) -> None:
    asked = {"role": "user", "content": [{"type": "text", "text": "book a trip "}, {"type": "text", "text": "to Rome"}]}
    call = {"id": "1", "type": "function", "function": {"name": "book", "arguments": '{"to": "Rome"}'}}
    rows = [
        {"messages": [asked, {"role": "assistant", "content": None, "tool_calls": [call]}]},
        {"messages": [{"role": "user", "content": "and back"}, {"role": "assistant", "tool_calls": [call]}]},
        {"messages": [{"role": "user", "content": "thanks"}, {"role": "assistant", "content": "a pleasure"}]},
    ]
    path = write_rows("heldout.jsonl", rows)
    items = load_items(_suite(path, chat=True))
    supplied = read_supplied(path, ContractConfig(sealed_fraction=0.0))
    again = load_items(_suite(write_rows("kept.jsonl", [dict(item.value) for item in supplied]), chat=True))
    assert [item.prompt for item in again] == [item.prompt for item in items] == ["book a trip to Rome", "and back", "thanks"]
    assert [item.answer for item in again] == [item.answer for item in items]


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.jsonl"
    path.write_bytes('{"prompt": "café", "answer": "a"}\n'.encode("latin-1"))
    with pytest.raises(EvaluationError, match="not UTF-8"):
        load_items(SuiteConfig(source=str(path)))


def test_duplicates_can_be_dropped(write_rows: Write, answer_rows: Rows) -> None:
    suite = SuiteConfig(source=str(write_rows("a.jsonl", answer_rows + answer_rows[:3])), duplicates="drop")
    assert len(load_items(suite)) == len(answer_rows)


def _suite(path: Path, **fields: Any) -> SuiteConfig:
    return SuiteConfig(name="s", source=str(path), **fields)


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


def test_tools_in_json_text_are_the_tools_that_training_reads(write_rows: Write) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "5"}]
    rows = [{"messages": turns, "tools": each} for each in (tools, json.dumps(tools))]
    as_list, as_text = (load_items(_suite(write_rows(f"{n}.jsonl", [row]), chat=True)) for n, row in enumerate(rows))
    assert as_text == as_list
    assert as_text[0].row()["tools"] == tools
    with pytest.raises(EvaluationError, match="tools: is not a list of objects"):
        load_items(_suite(write_rows("bad.jsonl", [{"messages": turns, "tools": '"f"'}]), chat=True))


def test_equal_questions_are_still_one_item(write_rows: Write) -> None:
    with pytest.raises(EvaluationError, match="the same item twice"):
        load_items(_suite(write_rows("s.jsonl", _parity(3) + _parity(1, note="again")), **OWN_KEYS))


def test_lines_end_with_a_line_feed_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_bytes("\ufeff".encode() + '{"prompt": "a\u2028b\u0085c", "answer": "d\u2029e"}\n'.encode())
    (item,) = load_items(_suite(path))
    assert (item.prompt, item.answer) == ("a\u2028b\u0085c", "d\u2029e")


def test_rows_without_a_passage_share_none(write_rows: Write) -> None:
    """They counted as items of one passage, so that intervals were too narrow."""
    passages = ["p", "p", "", " "]
    rows = [{"prompt": str(n), "answer": "a", "passage": passage} for n, passage in enumerate(passages)]
    items = load_items(SuiteConfig(source=str(write_rows("s.jsonl", rows)), cluster="{{ passage }}"))
    assert [item.cluster for item in items] == ["p", "p", None, None]
