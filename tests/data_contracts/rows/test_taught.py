"""The answer of a row, calls included, and what holds for a row beside its words."""

from __future__ import annotations

from data_contracts.rows.taught import answer_of, answer_text

TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


def test_an_answer_is_what_is_said_and_what_is_called() -> None:
    call = {"type": "function", "id": "x1", "function": {"name": "book", "arguments": {"to": "Rome", "day": 3}}}
    as_text = {"name": "book", "arguments": '{"day": 3, "to": "Rome"}'}
    assert answer_text({"role": "assistant", "content": "Vermeer."}) == "Vermeer."
    assert answer_text({"role": "assistant", "content": None}) == ""
    assert answer_text({"tool_calls": [call]}) == 'book {"day": 3, "to": "Rome"}' == answer_text({"content": "", "tool_calls": [as_text]})
    assert answer_text({"content": "Gladly.", "tool_calls": [call, {"name": "end"}]}) == 'Gladly.\nbook {"day": 3, "to": "Rome"}\nend {}'
    assert answer_text({"tool_calls": [{"function": {"name": "f", "arguments": "no json"}}]}) == 'f "no json"'
    assert answer_text({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}) == "ab"
    for odd in ("f", ["f"], [None], [{"function": "f"}], {"name": "f"}, 3):  # a suite's lines are not checked against the contract
        assert isinstance(answer_text({"content": 3, "tool_calls": odd}), str)


def test_the_answer_of_a_row_is_the_last_one_that_is_learned() -> None:
    context = {**TURNS[1], "weight": 0}
    assert answer_of([*TURNS, *TURNS]) == 3
    assert answer_of([*TURNS, TURNS[0], context]) == 1
    assert answer_of([TURNS[0], context]) == 1, "where none is learned, the last turn"
