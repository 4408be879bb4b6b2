"""Counting tokens by words gives what tokenising gives, for the tokenizers where it is used; the others are tokenised."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from flows.demo.tokenizer import build_tokenizer
from flows.text.token_counts import TokenCounter

_GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
_LLAMA3 = pre_tokenizers.Sequence(
    [
        pre_tokenizers.Split(
            Regex(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"),
            "isolated",
        ),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
)
_TEXTS = [
    "<|im_start|>user\nName the  colour of a ripe banana.<|im_end|>\n<|im_start|>assistant\nYellow, I'd say; 12345 of them.<|im_end|>\n",
    "def total(rows):\n    found = 0\n\n    for row in rows:\n        found += row['n'] # a   comment \n    return found\n",
    " leading, trailing ",
    "\ttabs\t and \u00a0 other\u2003spaces \r\n here",
    "Grüße, привет мир, 日本語 の 文, 🙂 🙂🙂, e\u0301a \u200b x",
    "",
    " ",
    "   \n \n ",
]


def byte_level(pre_tokenizer: Any) -> PreTrainedTokenizerFast:
    """A byte-level BPE of 400 tokens with this cutting."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(_TEXTS * 3, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False))
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


@pytest.fixture(scope="module", params=["gpt2", "llama3", "nano"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return build_tokenizer() if request.param == "nano" else byte_level(_GPT2 if request.param == "gpt2" else _LLAMA3)


def exact(tokenizer: Any, texts: list[str]) -> list[int]:
    return [len(tokenizer(text, add_special_tokens=False, padding=False)["input_ids"]) for text in texts]


def test_counts_by_words_are_the_tokenizer_s_own(tokenizer: Any) -> None:
    counter = TokenCounter(tokenizer)
    assert counter.by_words
    texts = [f"{one}{other}" for one in _TEXTS for other in _TEXTS]
    assert counter.counts(texts) == exact(tokenizer, texts)
    assert counter.by_words


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text(alphabet=st.one_of(st.sampled_from(" \n\t\r'sxé9-"), st.characters(exclude_categories=["Cs"]))), max_size=4))
def test_any_text_is_counted_as_it_is_tokenised(tokenizer: Any, texts: list[str]) -> None:
    counter = TokenCounter(tokenizer)
    counter._to_confirm = 0  # the rule itself, not its safety net
    assert counter.counts(texts) == exact(tokenizer, texts)


def test_a_tokenizer_that_may_join_words_is_asked_about_every_text() -> None:
    lowered = byte_level(_GPT2)
    lowered.backend_tokenizer.normalizer = normalizers.Lowercase()
    phrase = byte_level(_GPT2)
    phrase.add_tokens([AddedToken("ripe banana", normalized=False)])
    stripping = byte_level(_GPT2)
    stripping.add_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    whole = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    for tokenizer in (lowered, phrase, stripping, whole):
        counter = TokenCounter(tokenizer)
        assert not counter.by_words
        assert counter.counts(_TEXTS) == exact(tokenizer, _TEXTS)


def test_one_difference_in_the_first_texts_ends_the_counting_by_words() -> None:
    tokenizer = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    counter = TokenCounter(tokenizer)
    counter.by_words = True  # as if the samples had not shown it
    texts = ["a ripe banana " * 5, *_TEXTS]
    assert counter.counts(texts) == exact(tokenizer, texts)
    assert not counter.by_words


def test_a_word_without_end_is_counted_and_forgotten(tokenizer: Any) -> None:
    counter = TokenCounter(tokenizer)
    texts = [f"start {'x' * 5000} end", f"{'y' * 5000} end"]
    assert counter.counts(texts) == exact(tokenizer, texts)
    assert max(map(len, (*counter._first, *counter._later))) < 100
