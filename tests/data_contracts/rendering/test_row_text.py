"""What a model would read of a row, and what of it the template leaves out."""

from __future__ import annotations

from typing import Any

from data_contracts.rendering.answers import AnswerText
from data_contracts.rendering.chat import Chat
from data_contracts.rendering.row_text import Missing, example_texts, missing_parts


def _answer(turn: int, context: str, answer: str, tail: str = "") -> AnswerText:
    return AnswerText(turn, context, answer, "", tail, True)


def test_an_answer_that_a_later_text_begins_with_is_part_of_it() -> None:
    first, second, third = _answer(1, "q", "A|"), _answer(3, "q", "a|r|B|", "\n"), _answer(5, "q", "a|r|B|s|C|", "\n")
    assert example_texts([first, second, third]) == ("qA|", "qa|r|B|s|C|\n")
    assert example_texts([]) == ()


def _missing(*messages: dict[str, Any], printed: str, bare: str = "", tools: Any = None, answers: Any = ()) -> list[Missing]:
    chat = Chat(messages, tools, tuple(turn["role"] == "assistant" for turn in messages), False)
    return list(missing_parts(chat, printed, bare, answers))


USER, CALL = {"role": "user", "content": "ask"}, {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "find"}}]}


def test_turns_that_are_printed_nowhere_are_named_and_the_last_one_is_final() -> None:
    answer = {"role": "assistant", "content": "say"}
    assert _missing(USER, answer, printed="ask say") == []
    assert _missing({"role": "system", "content": "brief"}, USER, answer, printed="ask say") == [
        Missing("messages[0] (system)", final=False)
    ]
    assert _missing(USER, answer, printed="ask") == [Missing("messages[1] (assistant)", final=True)]
    assert _missing(USER, answer, printed="ask say", answers=[_answer(1, "ask", "other")]) == [
        Missing("messages[1] (assistant)", final=True)
    ]


def test_tools_calls_and_reasoning_are_looked_for_too() -> None:
    tools = ({"name": "find"},)
    assert _missing(USER, CALL, printed="ask find", bare="ask find", tools=tools) == [Missing("its tools", final=False)]
    assert _missing(USER, CALL, printed="find: ask find", bare="ask find", tools=tools) == []
    assert _missing(USER, CALL, printed="ask") == [Missing("the call of 'find' in messages[1]", final=False)]
    thought = {"role": "assistant", "content": "say", "reasoning_content": "because"}
    assert _missing(USER, thought, printed="ask say", answers=[_answer(1, "ask", "say")]) == [
        Missing("the reasoning of messages[1]", final=False)
    ]
    assert _missing(USER, thought, printed="ask say", answers=[_answer(1, "ask", "because say")]) == []
