"""Context and continuation in tokens: the context's own ids come first, and together they spell both texts."""

from __future__ import annotations

from typing import Any

import pytest

from data_contracts.rendering.encoding import encode, encode_after

TEXTS = [
    ("where is order A0?\n", "It is on its way.<|im_end|>"),
    ("assistant:", " yes"),
    ("assistant: y", "es\n\n\n"),
    ("", "technical"),
    ("<|im_start|>assistant\n", "\n\nlines"),
    ("2 plus", " 3 make 5"),
    ("hel", "lo there"),
]


@pytest.mark.parametrize(("context", "text"), TEXTS)
def test_context_and_continuation_spell_both_texts(plain_tokenizer: Any, context: str, text: str) -> None:
    asked = encode(plain_tokenizer, context)
    after = encode_after(plain_tokenizer, context, asked, text)
    spelled = plain_tokenizer.decode([*asked, *after])
    assert spelled.replace(" ", "") == (context + text).replace(" ", "")
    assert after


def test_nothing_is_no_ids(plain_tokenizer: Any) -> None:
    assert encode(plain_tokenizer, "") == ()
    assert encode_after(plain_tokenizer, "a", encode(plain_tokenizer, "a"), "") == ()


class Merging:
    """Each letter is its code, but `ab` is one token wherever it stands."""

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": [0 if part == "\0" else ord(part) for part in text.replace("ab", "\0")]}


def test_a_token_that_would_reach_over_the_boundary_is_not_made() -> None:
    merging = Merging()
    assert encode(merging, "ab") == (0,)
    assert encode_after(merging, "a", encode(merging, "a"), "b") == (ord("b"),)
    assert encode_after(merging, "a", encode(merging, "a"), "bab") == (ord("b"), 0)
