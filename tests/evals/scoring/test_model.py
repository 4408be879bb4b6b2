"""Scores are those of lm-eval: the same numbers as plain HFLM gives on the same requests. Where HFLM is wrong, with a tokenizer that puts
tokens of its own around a text, the right ones are those of transformers."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch


@pytest.fixture(scope="module")
def requests() -> list[Any]:
    """Continuations of one token and of many, one the beginning of another, after trailing space, after nothing, after too much."""
    from lm_eval.api.instance import Instance

    rng = random.Random(3)
    pairs = [
        (f"Question {n}: {'why ' * rng.randint(1, 30)}", c) for n in range(6) for c in ("a", " b", " because", " because of", " becalmed")
    ]
    pairs += [("Say: ", "yes"), ("Say:\n", "yes and no"), ("", "nothing before"), ("x" * 300, " too long"), ("Say:", " yes")]
    return [Instance("loglikelihood", {}, pair, 0, ("t", n, 1)) for n, pair in enumerate(pairs)]


@pytest.mark.parametrize("packs", [True, False])
def test_log_probabilities_are_those_of_hflm(session: Any, plain_lm: Any, requests: list[Any], packs: bool) -> None:
    assert session._lm.scorer.packs, "the mask of a Llama is honoured"
    session._lm.scorer.packs = packs
    try:
        ours = session._lm.loglikelihood(requests)
    finally:
        session._lm.scorer.packs = True
    theirs = plain_lm.loglikelihood(requests, disable_tqdm=True)
    np.testing.assert_allclose([score for score, _ in ours], [score for score, _ in theirs], atol=2e-4)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]


def test_rows_share_a_context_and_nothing_else(session: Any) -> None:
    """Whole texts have one token of context in common: side by side they would be one row, and its mask the square of all of them."""
    rows = session._lm.scorer._rows([([1], [n] * 60) for n in range(5, 55)])
    assert [len(row.tokens) for row in rows] == [60] * 50
    question = list(range(5, 105))
    (row,) = session._lm.scorer._rows([(question, [n, 7, 8]) for n in range(20)])
    assert len(row.tokens) == 100 + 20 * 2
    wide = session._lm.scorer._rows([(question, [*question[:90], n, n]) for n in range(40)])
    assert max(len(row.tokens) for row in wide) <= 2048


def test_rolling_log_probabilities_are_those_of_hflm(session: Any, plain_lm: Any) -> None:
    from lm_eval.api.instance import Instance

    texts = ["Short.", "A line that is a little longer than that one.", "Longer than the model. " * 30]
    requests = [Instance("loglikelihood_rolling", {}, (text,), 0, ("t", n, 1)) for n, text in enumerate(texts)]
    np.testing.assert_allclose(
        session._lm.loglikelihood_rolling(requests), plain_lm.loglikelihood_rolling(requests, disable_tqdm=True), rtol=1e-5
    )


def test_text_is_measured_where_training_and_calibration_read_it(session: Any, plain_lm: Any) -> None:
    """The same tokens after the same first one: what protects general text must see what the gate measures."""
    from lm_eval.api.instance import Instance

    from data_contracts.rendering import TextRenderer

    text = "A line that is a little longer than that one."
    [document] = TextRenderer(session._tokenizer).render_row({"text": text}, "row", max_tokens=256)
    ids = torch.tensor([document.ids[:-1]])  # without the end token that training adds
    with torch.no_grad():
        logprobs = torch.log_softmax(plain_lm.model(ids).logits[0, :-1].double(), -1).gather(1, ids[0, 1:, None])
    [measured] = plain_lm.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, (text,), 0, ("t", 0, 1))], disable_tqdm=True)
    np.testing.assert_allclose(float(logprobs.sum()), measured, rtol=1e-5)


def _ask(session: Any, context: str, answer: str, stops: tuple[str, ...], limit: int) -> tuple[Any, Any]:
    """(request for the answer's likelihood, request for an answer), as a plain suite makes them."""
    from lm_eval.api.instance import Instance

    from evals.scoring.model import AnswerIds, Draft

    (asked,) = map(tuple, session._lm.tokens.encode([context]))
    doc = {"draft": Draft(asked, (), stops, limit)}
    settings = {"until": list(stops), "max_gen_toks": limit, "do_sample": False}
    likelihood = Instance("loglikelihood", doc, (context, answer), 0, ("t", 0, 1))
    return likelihood, Instance("generate_until", doc, (context, settings, AnswerIds(asked, ())), 1, ("t", 0, 1))


def test_recognised_answers_are_what_generation_gives(session: Any, plain_lm: Any) -> None:
    """Ask for the model's own greedy answers as gold: they must be recognised without decoding, and be the decoded text."""
    from lm_eval.api.instance import Instance

    contexts = [f"<|user|>Tell me {n}<|end|><|assistant|>" for n in range(30)]
    long = {"until": [], "max_gen_toks": 8, "do_sample": False}
    decoded = plain_lm.generate_until([Instance("generate_until", {}, (c, long), 0, ("t", 0, 1)) for c in contexts], disable_tqdm=True)
    recognised = 0
    for context, text in zip(contexts, decoded, strict=True):
        stop = next((c for i, c in enumerate(text) if i >= 2 and c not in text[:i]), None)
        if stop is None or not text.isascii():
            continue
        answer = text[: text.index(stop)]
        likelihood, request = _ask(session, context, answer, (stop,), 64)
        session._lm.loglikelihood([likelihood, Instance("loglikelihood", {}, (context, answer + "!"), 0, ("t", 0, 1))])
        recognised += request.args[-1].asked in session._lm._drafts
        ours = session._lm.generate_until([request])
        theirs = plain_lm.generate_until([Instance("generate_until", {}, request.args[:2], 0, ("t", 0, 1))], disable_tqdm=True)
        assert ours == theirs == [answer]
    assert recognised >= 1


def test_a_wrong_draft_is_not_taken_for_the_answer(session: Any, plain_lm: Any) -> None:
    from lm_eval.api.instance import Instance

    likelihood, request = _ask(session, "<|user|>Two?<|end|><|assistant|>", "not what it says", (), 8)
    session._lm.loglikelihood([likelihood])
    theirs = plain_lm.generate_until([Instance("generate_until", {}, request.args[:2], 0, ("t", 0, 1))], disable_tqdm=True)
    assert session._lm.generate_until([request]) == theirs != ["not what it says"]


def test_a_draft_that_only_begins_what_the_model_says_is_not_taken_for_the_answer(session: Any, plain_lm: Any) -> None:
    """4 is wrong where the model says 42, although each of its tokens is the likeliest."""
    from lm_eval.api.instance import Instance

    context = "<|user|>Tell me more<|end|><|assistant|>"
    long = {"until": [], "max_gen_toks": 8, "do_sample": False}
    (said,) = plain_lm.generate_until([Instance("generate_until", {}, (context, long), 0, ("t", 0, 1))], disable_tqdm=True)
    assert len(said) == 8
    assert said.isascii()
    likelihood, request = _ask(session, context, said[:3], (), 8)
    session._lm.loglikelihood([likelihood])
    assert session._lm.generate_until([request]) == [said]


def test_a_draft_longer_than_the_limit_is_cut_as_generation_cuts_it(session: Any, plain_lm: Any) -> None:
    from lm_eval.api.instance import Instance

    context = "<|user|>Tell me more<|end|><|assistant|>"
    long = {"until": [], "max_gen_toks": 12, "do_sample": False}
    (said,) = plain_lm.generate_until([Instance("generate_until", {}, (context, long), 0, ("t", 0, 1))], disable_tqdm=True)
    end = next(at for at in range(3, len(said)) if said[at] not in said[:at])
    for limit in (2, end + 1):
        likelihood, request = _ask(session, context, said[:end], (said[end],), limit)
        session._lm.loglikelihood([likelihood])
        assert session._lm.generate_until([request]) == [said[: min(limit, end)]]


@pytest.fixture(scope="module")
def framing(tiny_model: Path, session: Any) -> Any:
    """The tiny model under a tokenizer that puts a beginning and an end around every text."""
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    from evals.config import EvaluationConfig
    from evals.scoring.model import ScoringLM

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    ends = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("<|bos|>", "<|end|>")]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<|bos|> $A <|end|>", special_tokens=ends)
    assert tokenizer("a")["input_ids"][0] == ends[0][1]
    assert tokenizer("a")["input_ids"][-1] == ends[1][1]
    return ScoringLM(session._lm.model, tokenizer, EvaluationConfig(device="cpu", num_threads=1), lambda _: None)


def _ids(lm: Any, text: str, *, bos: bool = True) -> list[int]:
    """Each character is a token."""
    return [lm.tokenizer.bos_token_id] * bos + [lm.tokenizer.convert_tokens_to_ids(c) for c in text.replace(" ", "Ġ")]


def _nats(lm: Any, context: list[int], tokens: list[int]) -> float:
    with torch.no_grad():
        logprobs = lm.model(torch.tensor([[*context, *tokens]])).logits[0].log_softmax(-1)
    return float(sum(logprobs[len(context) - 1 + place, token] for place, token in enumerate(tokens)))


@pytest.mark.parametrize("text", ["A line of text.", "<|bos|>A line of text.", "A text that is longer than the window. " * 9])
def test_what_begins_a_text_is_context_and_not_text(framing: Any, text: str) -> None:
    from lm_eval.api.instance import Instance

    size = framing.max_length
    ids = _ids(framing, text.removeprefix("<|bos|>"))
    windows = [(ids[:1], ids[1 : size + 1])] + ([(ids[-1 - size : size + 1], ids[size + 1 :])] if len(ids) > size + 1 else [])
    [measured] = framing.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, (text,), 0, ("t", 0, 1))])
    assert measured == pytest.approx(sum(_nats(framing, *window) for window in windows), rel=1e-5)


def test_choices_are_scored_complete_and_behind_no_end(framing: Any) -> None:
    from lm_eval.api.instance import Instance

    choices = (" red", " green")
    asked = [Instance("loglikelihood", {}, ("Which?", choice), n, ("t", 0, 1)) for n, choice in enumerate(choices)]
    right = [_nats(framing, _ids(framing, "Which?"), _ids(framing, choice, bos=False)) for choice in choices]
    assert [score for score, _ in framing.loglikelihood(asked)] == pytest.approx(right, abs=2e-4)


def test_the_choices_of_an_item_of_lm_eval_are_split_at_one_place(framing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_eval.api.instance import Instance

    seen: list[Any] = []
    encode = framing.tokens.encode_pairs
    monkeypatch.setattr(framing.tokens, "encode_pairs", lambda pairs, items: seen.extend(items) or encode(pairs, items))
    framing.loglikelihood([Instance("loglikelihood", {}, ("Which?", " a"), n, ("task", n // 2, 1)) for n in range(4)])
    assert seen == [("task", 0), ("task", 0), ("task", 1), ("task", 1)]


@pytest.mark.parametrize("window", [None, 12])
def test_lm_evals_own_questions_do_not_end_before_the_answer(framing: Any, window: int | None) -> None:
    ids, mask = framing.tok_batch_encode(["Why is it so?", "<|bos|>No"], left_truncate_len=window)
    rows = [_ids(framing, "Why is it so?"), _ids(framing, "No")]
    assert [row[kept.bool()].tolist() for row, kept in zip(ids, mask, strict=True)] == [row[-(window or 99) :] for row in rows]
    assert mask[:, -1].tolist() == [1, 1], "padded in front"


def test_lm_evals_own_answers_follow_the_question(framing: Any) -> None:
    from lm_eval.api.instance import Instance

    settings = {"until": [], "max_gen_toks": 5, "do_sample": False}
    said = framing.generate_until([Instance("generate_until", {}, (text, settings), 0, ("t", 0, 1)) for text in ("Why is it so?", "No")])
    for text, answer in zip(("Why is it so?", "No"), said, strict=True):
        ids = _ids(framing, text)
        for _ in range(5):
            with torch.no_grad():
                ids.append(int(framing.model(torch.tensor([ids])).logits[0, -1].argmax()))
        assert answer == framing.tokenizer.decode(ids[-5:])


def test_lm_evals_own_answers_are_those_of_each_question_alone(session: Any) -> None:
    """Under RoPE that turns by the longest of a batch, short questions are not answered beside long ones, nor as if after them."""
    from lm_eval.api.instance import Instance
    from transformers import LlamaConfig, LlamaForCausalLM

    from evals.config import EvaluationConfig
    from evals.scoring.model import ScoringLM

    def build() -> Any:
        torch.manual_seed(0)
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
        dynamic = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
        sizes |= {"vocab_size": len(session._tokenizer), "max_position_embeddings": 32}
        return LlamaForCausalLM(LlamaConfig(**sizes, rope_parameters=dynamic, initializer_range=0.5)).eval()

    config = EvaluationConfig(device="cpu", num_threads=1, max_length=200)
    lm = ScoringLM(build(), session._tokenizer, config, lambda _: None)
    texts = ["A question of more than thirty tokens is this one.", "One of more than thirty tokens, also this.", "Shorter?", "So?"]
    settings = {"until": [], "max_gen_toks": 6, "do_sample": False}
    asked = [Instance("generate_until", {}, (text, settings), 0, ("t", n, 1)) for n, text in enumerate(texts)]
    alone = [ScoringLM(build(), session._tokenizer, config, lambda _: None).generate_until([request])[0] for request in asked]
    assert lm.generate_until(asked) == alone
    assert [sorted(batch) for batch in lm._generation_batches(asked, {0, 1, 2, 3})] == [[0], [1], [2, 3]]
