"""Texts become the tokens that lm-eval's HFLM gives them, many at a time."""

from __future__ import annotations

from typing import Any

import pytest

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
