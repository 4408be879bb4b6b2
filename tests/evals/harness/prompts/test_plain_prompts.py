"""Prompts without a chat template: what stands between question and answer, and right answers that could never be given.

Expected numbers are computed with tokens, full forward passes and argmax, and with nothing of the harness.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_contracts.errors import EvaluationError
from evals.config import SuiteConfig
from evals.suites.items import load_items

Write = Callable[..., Path]
Row = dict[str, Any]


def _logits(session: Any, text: str) -> tuple[list[int], Any]:
    import torch

    ids = session._tokenizer(text, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        return ids, session._lm.model(torch.tensor([ids])).logits[0]


def _greedy(session: Any, text: str, limit: int) -> str:
    said = ""
    for _ in range(limit):  # a token is a byte, and the model says letters only
        said += session._tokenizer.decode([int(_logits(session, text + said)[1][-1].argmax())])
    return said


def _nats(session: Any, context: str, answer: str) -> float:
    ids, logits = _logits(session, context + answer)
    chances = logits.log_softmax(-1)
    return float(sum(chances[at - 1, ids[at]] for at in range(len(_logits(session, context)[0]), len(ids))))


def _suite(write_rows: Write, rows: list[Row], **fields: Any) -> SuiteConfig:
    return SuiteConfig(name="p", source=str(write_rows("p.jsonl", rows)), **fields)


def _score(session: Any, suite: SuiteConfig) -> tuple[Any, Any]:
    """(the task that lm-eval ran, the rows of the store)."""
    items = load_items(suite)
    return session.task(suite, items), session.score(suite, items, lambda _: None)


@pytest.mark.parametrize(("separator", "asked"), [(" ", ""), ("", ""), ("\n", "\n"), ("\nA: ", "\nA:"), (" is ", " is")])
def test_an_answer_is_generated_behind_the_separator(session: Any, write_rows: Write, separator: str, asked: str) -> None:
    rows = [{"prompt": f"tell {n}", "answer": "seven"} for n in range(3)]
    task, table = _score(session, _suite(write_rows, rows, separator=separator))
    for row, prompt, (_, kept) in zip(rows, task.prompts, table.iterrows(), strict=True):
        assert kept["prediction"] == _greedy(session, row["prompt"] + asked, prompt.limit)
        assert kept["gold_logprob"] == pytest.approx(_nats(session, row["prompt"], f"{separator}seven"), abs=5e-4)
    generations = [each.args[0] for each in _text_requests(task) if each.request_type == "generate_until"]
    assert generations == [row["prompt"] + asked for row in rows], "a backend that takes text is asked the same"


def _text_requests(task: Any) -> list[Any]:
    task._in_tokens = False
    return [each for number, doc in enumerate(task.test_docs()) for each in task.construct_requests(doc, "", doc_id=number)]


def test_an_answer_behind_a_line_break_that_the_model_gives_is_right(session: Any, write_rows: Write) -> None:
    """Its line break used to be generated, and to end the answer there."""
    rows = [{"prompt": f"tell {n}", "answer": _greedy(session, f"tell {n}\n", 7)} for n in range(3)]
    _, table = _score(session, _suite(write_rows, rows, separator="\n", answer_pattern="^.{7}"))
    assert list(table["score"]) == [1.0, 1.0, 1.0]


def test_a_choice_that_brings_its_own_space_gets_no_second_one(session: Any, write_rows: Write) -> None:
    rows = [{"prompt": f"Is {n} even?", "choices": [" yes", "no"], "gold": n % 2} for n in range(4)]
    _, table = _score(session, _suite(write_rows, rows, few_shot=1))
    for n, (_, kept) in enumerate(table.iterrows(), start=1):
        asked = f"Is 0 even? yes\n\nIs {n} even?"
        np.testing.assert_allclose(kept["choice_logprobs"], [_nats(session, asked, each) for each in (" yes", " no")], atol=5e-4)
    twice = [{"prompt": "Is it?", "choices": [" yes", "yes"], "gold": 0}]
    with pytest.raises(EvaluationError, match="the choices ' yes' and 'yes' are the same tokens to this model"):
        _score(session, _suite(write_rows, twice))


@pytest.mark.parametrize(
    ("answer", "fields"),
    [
        ("a = 1\nb = 2", {}),
        ("3.14", {"stop": ("!", ".")}),
        ("3.14", {"stop": (".",), "chat": True}),
        ("2 and 2\n#### 4", {"answer_pattern": r"#### (\d+)"}),
    ],
)
def test_a_right_answer_that_holds_a_stop_is_one_line(session: Any, write_rows: Write, answer: str, fields: dict[str, Any]) -> None:
    suite = _suite(write_rows, [{"prompt": "q", "answer": "4"}, {"prompt": "r", "answer": answer}], **fields)
    with pytest.raises(EvaluationError, match=r"p: 'r': the right answer .* holds '(\\n|\.)', which ends an answer of this suite"):
        _score(session, suite)
    _score(session, suite.model_copy(update={"stop": ()}))


def test_a_stop_behind_what_is_compared_cuts_nothing_off(session: Any, write_rows: Write) -> None:
    rows = [{"prompt": "q", "answer": "#### 4\nbecause"}, {"prompt": "r", "answer": "#### 5\n"}]
    _score(session, _suite(write_rows, rows, answer_pattern=r"#### (\d+)"))
    _score(session, _suite(write_rows, [{"prompt": "q", "choices": ["a\nb", "c"], "gold": 0}]))  # a choice is scored whole
