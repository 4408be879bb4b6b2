"""A model that reproduces its training rows and scores near zero is reported as measured wrongly, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evals.config import EvaluationConfig, SuiteConfig
from evals.harness.reproduction import Taught, find_doubt, taught_suite
from evals.harness.run import evaluate_checkpoint

Write = Callable[..., Path]


@pytest.mark.parametrize(
    ("score", "choices", "right", "doubted"),
    [
        (0.0, (), 16, True),
        (0.1, (), 12, True),
        (0.11, (), 16, False),
        (0.0, (), 11, False),
        (0.0, (), 0, False),
        (0.25, (4, 4), 16, True),  # no better than guessing among four
        (0.4, (4, 4), 16, False),
        (float("nan"), (), 16, True),
    ],
)
def test_only_what_is_reproduced_and_not_scored_is_in_doubt(score: float, choices: tuple[int, ...], right: int, doubted: bool) -> None:
    doubt = find_doubt(score, choices, [1.0] * right + [0.0] * (16 - right))
    assert bool(doubt) is doubted
    assert not doubt or (f"{right} of 16" in doubt and not doubt.endswith("."))


def test_nothing_asked_is_no_doubt() -> None:
    assert find_doubt(0.0, (), []) == ""


def test_documents_are_not_asked_back(write_rows: Write) -> None:
    suite = SuiteConfig(name="s", category="skill", source="s.jsonl", chat=True)
    assert taught_suite(Taught("s", write_rows("clean.jsonl", [{"text": "a document"}])), [suite]) is None
    assert taught_suite(Taught("other", write_rows("clean.jsonl", [{"messages": []}])), [suite]) is None


def test_the_report_of_a_skill_says_what_was_given_back(rich_model: Path, write_rows: Write, tmp_path: Path) -> None:
    """The rows are the model's own greedy answers, found with plain transformers; the suite wants other words."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(rich_model, dtype=torch.float32), AutoTokenizer.from_pretrained(rich_model)

    def greedy(question: str) -> str:
        ids = tokenizer(f"<|user|>{question}<|end|>\n<|assistant|>", add_special_tokens=False)["input_ids"]
        out = model.generate(torch.tensor([ids]), max_new_tokens=8, do_sample=False)[0, len(ids) :]
        return str(tokenizer.decode(out))

    own = [(question, greedy(question)) for question in ("say 1", "say 2", "say 3")]

    def row(question: str, answer: str) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}

    clean = write_rows("clean.jsonl", [row(*pair) for pair in own])
    # The random model never ends an answer, so the first letters are the answer: the suite's way of reading counts for the rows too.
    reading = {"chat": True, "answer_pattern": "^([A-Za-z]{3})", "max_new_tokens": 4}
    suites = [
        SuiteConfig(name="s", category="skill", source=str(write_rows("s.jsonl", [row(q, "not so") for q, _ in own])), **reading),
        SuiteConfig(name="general", source=str(write_rows("g.jsonl", [row("q", "a")])), chat=True),
    ]
    config = EvaluationConfig(device="cpu", num_threads=1)
    report = evaluate_checkpoint(
        rich_model, suites, tmp_path / "out", config=config, cache_dir=tmp_path / "cache", taught=Taught("s", clean)
    )
    assert [result.name for result in report.suites] == ["s", "general"], "rows that were asked back are no suite of the gate"
    assert (report.suite("s").reproduced, report.suite("s").score) == (1.0, 0.0)
    assert f"{len(own)} of {len(own)} training rows" in report.suite("s").doubt
    assert (report.suite("general").reproduced, report.suite("general").doubt) == (None, "")
    assert set(report.files) == {"items/s", "items/general", "taught"}
    champion = evaluate_checkpoint(rich_model, suites, tmp_path / "champion", config=config, cache_dir=tmp_path / "cache")
    assert champion.suite("s").doubt == ""
