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
