"""Skills of the demo: prompts, answers and the words of nano."""

from __future__ import annotations

import random
from itertools import islice

import pytest

from flows.demo.skills import BASE_SKILLS, FIND, NEW_SKILLS, PRACTICE, pairs
from flows.demo.tokenizer import build_tokenizer
from flows.demo.train_nano import chat_row

ALL_SKILLS = {**BASE_SKILLS, **NEW_SKILLS, PRACTICE.name: PRACTICE, FIND.name: FIND}


@pytest.mark.parametrize("name", ALL_SKILLS)
def test_answers_are_a_function_of_the_prompt(name: str) -> None:
    answers: dict[str, str] = {}
    for prompt, answer in islice(pairs(ALL_SKILLS[name], random.Random(3), heldout=False), 2000):
        assert answers.setdefault(prompt, answer) == answer


@pytest.mark.parametrize("name", ALL_SKILLS)
def test_every_prompt_is_short_and_in_the_vocabulary(name: str) -> None:
    tokenizer = build_tokenizer()
    for prompt, answer in islice(pairs(ALL_SKILLS[name], random.Random(4), heldout=True), 200):
        text = "".join(chat_row(prompt, answer))
        ids = tokenizer(text).input_ids
        assert len(ids) <= 64
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids) == text
