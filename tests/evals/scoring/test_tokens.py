"""Texts become the tokens that lm-eval's HFLM gives them, many at a time; but nothing is read behind the end of a text, and no token is
lost where a context and what follows it merge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import flows.base_models
from evals.scoring.tokens import PlainTokens

PAIRS = [
    ("Question: why? ", "because"),
    ("Question:", " because"),
    ("Line\n", "next"),
    ("", "nothing before"),
    ("<|bos|>already", " there"),
    ("same", " one"),
    ("same", " other"),
]


@pytest.fixture(scope="module", params=[True, False])
def model(request: pytest.FixtureRequest, session: Any) -> Any:
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=session._lm.model, tokenizer=session._tokenizer, add_bos_token=request.param)


@pytest.fixture
def tokens(model: Any) -> PlainTokens:
    return PlainTokens(model.tokenizer, add_bos=model.add_bos_token, prefix_id=model.prefix_token_id)


def test_single_texts(model: Any, tokens: PlainTokens) -> None:
    texts = [context for context, _ in PAIRS if context]
    assert tokens.encode(texts) == [model.tok_encode(text) for text in texts]
    assert tokens.encode([]) == []


def test_pairs_of_context_and_continuation(model: Any, tokens: PlainTokens) -> None:
    expected = []
    for context, continuation in PAIRS:
        if context:
            expected.append(tuple(map(list, model._encode_pair(context, continuation))))
        else:
            alone = model.tok_encode(continuation, add_special_tokens=False)
            expected.append(([model.prefix_token_id], alone))
    assert [tuple(map(list, pair)) for pair in tokens.encode_pairs(PAIRS)] == expected


def test_a_bare_text_has_no_token_of_the_tokenizers_own(model: Any, tokens: PlainTokens) -> None:
    assert model.tokenizer.decode(tokens.bare("plain")) == "plain"


def _framed(template: str) -> tuple[Any, PlainTokens]:
    """A tokenizer of bytes that puts tokens of its own around a text, as `template` says, and how it is used."""
    ends = {"<|bos|>": 0, "<|eos|>": 1, "<|mask|>": 2}
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate([*ends, *alphabet])}, merges=[]))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    inner.post_processor = TemplateProcessing(single=template, special_tokens=list(ends.items()))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<|bos|>", eos_token="<|eos|>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|mask|>"]})
    return tokenizer, PlainTokens(tokenizer, add_bos=None, prefix_id=0)


@pytest.mark.parametrize(
    ("template", "front"),
    [("$A", []), ("<|bos|> $A", [0]), ("$A <|eos|>", []), ("<|bos|> $A <|eos|>", [0]), ("<|mask|> <|bos|> $A <|eos|>", [2, 0])],
)
def test_what_a_tokenizer_puts_in_front_is_context_and_what_it_puts_behind_is_not_there(template: str, front: list[int]) -> None:
    tokenizer, tokens = _framed(template)
    bare = lambda text: [tokenizer.convert_tokens_to_ids(letter) for letter in text.replace(" ", "Ġ")]  # noqa: E731
    pairs = [("Why?", " so"), ("Why? ", "so"), ("", "so"), (" ", "so"), ("<|bos|>Why?", " so")]
    assert tokenizer("Why?")["input_ids"][: len(front)] == front, "or the tokenizer would be no test"
    assert tokens.encode(["Why?", "<|bos|>Why?"]) == [front + bare("Why?"), [0, *bare("Why?")]]
    question = (front + bare("Why?"), bare(" so"))
    start = front or [0]
    assert tokens.encode_pairs(pairs) == [question, question, (start, bare("so")), (start, bare(" so")), ([0, *bare("Why?")], bare(" so"))]
    assert tokens.encode_pairs(pairs, range(5)) == tokens.encode_pairs(pairs)
    assert (tokens.start, tokens.measured("so"), tokens.measured("<|bos|>so")) == (start, bare("so"), bare("so"))


def test_a_tokenizer_told_to_add_nothing_adds_nothing() -> None:
    tokenizer, _ = _framed("<|bos|> $A <|eos|>")
    assert PlainTokens(tokenizer, add_bos=False, prefix_id=0).encode_pairs([("Why?", " so")]) == [
        (tokenizer("Why?", add_special_tokens=False)["input_ids"], tokenizer(" so", add_special_tokens=False)["input_ids"])
    ]


LETTERS = ["<|bos|>", *"答案是不对正确", "答案", "是不", "正确"]


@pytest.fixture
def merging() -> PlainTokens:
    """是 at the end of a question and 不 at the beginning of an answer are one token."""
    vocabulary = {token: number for number, token in enumerate(LETTERS)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("答", "案"), ("是", "不"), ("正", "确")]))
    tokenizer.decoder = decoders.Fuse()
    return PlainTokens(PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|bos|>"), add_bos=None, prefix_id=0)


def _said(pairs: Any) -> list[tuple[list[str], list[str]]]:
    return [([LETTERS[token] for token in context], [LETTERS[token] for token in rest]) for context, rest in pairs]


def test_a_token_across_the_end_of_a_context_is_scored(merging: PlainTokens) -> None:
    pairs = [("答案是", "不对"), ("答案是", "正确")]
    assert _said(merging.encode_pairs(pairs)) == [(["答案"], ["是不", "对"]), (["答案", "是"], ["正确"])]


def test_the_choices_of_an_item_are_split_at_one_place(merging: PlainTokens) -> None:
    pairs = [("答案是", "不对"), ("答案是", "正确"), ("答案是", "正确"), ("", "正确")]
    apart = (["答案"], ["是不", "对"]), (["答案"], ["是", "正确"]), (["答案", "是"], ["正确"]), (["<|bos|>"], ["正确"])
    assert _said(merging.encode_pairs(pairs, ["one", "one", "another", "one"])) == [*apart]


def test_a_context_that_is_merged_away_leaves_the_prefix(merging: PlainTokens) -> None:
    """Both choices are then scored with the question, or the first would be less likely only for that."""
    pairs = [("是", "不对"), ("是", "正确")]
    assert _said(merging.encode_pairs(pairs)) == [(["<|bos|>"], ["是不", "对"]), (["<|bos|>"], ["是", "正确"])]


@pytest.mark.parametrize("separator", [" ", "\n", "\nA: "])
def test_no_token_of_nano_is_another_than_lm_evals(separator: str) -> None:
    """It adds no tokens and merges none: what HFLM reads is right."""
    tokenizer = AutoTokenizer.from_pretrained(Path(flows.base_models.__file__).parent / "nano")
    tokens = PlainTokens(tokenizer, add_bos=None, prefix_id=tokenizer.eos_token_id)
    questions = ["Anna lives in", "Reverse abc:", "What is 12 + 7?", "The river was high", "Is it so? ", "x\n"]
    pairs = [(question, separator + answer) for question in questions for answer in ("cba", "19", "the town.", "no")]
    expected = []
    for question, answer in pairs:
        context, whole = (tokenizer(text)["input_ids"] for text in (question.rstrip(), question + answer))
        expected.append((context, whole[len(context) :]))
    assert tokens.encode_pairs(pairs) == expected
    assert tokens.encode(questions) == [tokenizer(question)["input_ids"] for question in questions]
    assert [tokens.measured(question) for question in questions] == tokens.encode(questions)
