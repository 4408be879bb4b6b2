"""Answers that refuse, and answers that only sound like it."""

from __future__ import annotations

import pytest

from data_contracts.checks.refusals import Refusals
from data_contracts.rows.records import Row


@pytest.mark.parametrize(
    ("answer", "refuses"),
    [
        ("I'm sorry, but I can't assist with that request.", True),
        ("I’m really sorry, but I cannot provide that.", True),
        ("As an AI language model, I have no feelings.", True),
        ("I cannot help with illegal acts.", True),
        ("Sorry, I won't do this.", True),
        ("I'm sorry to hear about your loss.", False),
        ("I can help with that.", False),
        ("I cannot recommend this film enough!", False),
        ("The model said: I'm sorry, but I can't help.", False),
        ("Sorry for the delay; the answer is 4.", False),
    ],
)
def test_refusals_are_told_from_regret(answer: str, refuses: bool) -> None:
    row = Row(1, "chat", {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": answer}]})
    assert bool(list(Refusals().observe_row(row))) is refuses


def test_an_answer_that_is_not_learned_refuses_nothing() -> None:
    asked, refusing = {"role": "user", "content": "q"}, {"role": "assistant", "content": "I cannot help with illegal acts."}
    good = {"role": "assistant", "content": "a"}
    assert not list(Refusals().observe_row(Row(1, "chat", {"messages": [asked, good, asked, {**refusing, "weight": 0}]})))
    assert list(Refusals().observe_row(Row(1, "chat", {"messages": [asked, refusing, asked, {**good, "weight": 0}]})))
