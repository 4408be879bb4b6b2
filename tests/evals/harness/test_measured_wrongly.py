"""A model that learned its rows, under a suite that wants other words: held as "measured wrongly?" from the harness to the page.

The model is a tiny Llama that plain torch trains in this file until it says every row word for word; nothing of the engine, and nothing of
the renderer. The suite's gold answers are spelled otherwise than the rows that were trained on, so every held-out item scores 0.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_contracts.manifests import Decision, Verdict
from evals.audit.forgetting import RoundEvaluation, audit_forgetting
from evals.config import EvaluationConfig, SuiteConfig
from evals.gate.decide import GateEvidence, GatePolicy, decide
from evals.gate.next_steps import Situation, next_steps
from evals.harness.reproduction import Taught
from evals.harness.run import evaluate_checkpoint
from evals.items import Evaluation, load_evaluation
from evals.report.render import render_round, verdict_markdown

Write = Callable[..., Path]
COLOURS = ("red", "tan", "sky")  # of one length, so that the rows make one batch
TRAINED = [(f"paint {number}", COLOURS[number % 3]) for number in range(9)]
HELD_OUT = [(f"paint {number}", f"Colour: {COLOURS[number % 3]}") for number in range(9, 45)]


def _row(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def _asked(question: str) -> str:
    """What the template of `rich_model` prints before an answer."""
    return f"<|user|>{question}<|end|>\n<|assistant|>"


@pytest.fixture(scope="module")
def trained_model(rich_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random model after so many steps that greedy decoding says every trained answer, and ends it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("trained") / "model"
    shutil.copytree(rich_model, folder)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), AutoTokenizer.from_pretrained(folder)

    def ids_of(*texts: str) -> torch.Tensor:
        return torch.tensor(tokenizer(list(texts), add_special_tokens=False)["input_ids"])

    rows = ids_of(*(f"{_asked(question)}{answer}<|end|>" for question, answer in TRAINED))
    labels = rows.clone()
    labels[:, : ids_of(_asked(TRAINED[0][0])).shape[1]] = -100

    def says(question: str, answer: str) -> bool:
        ids = ids_of(_asked(question))
        said = model.generate(ids, max_new_tokens=12, do_sample=False, attention_mask=torch.ones_like(ids))[0, ids.shape[1] :]
        return bool(tokenizer.decode(said).split("<|end|>")[0] == answer)

    optimizer, loss = torch.optim.AdamW(model.parameters(), lr=1e-2), float("inf")
    for _ in range(200):
        step = model(rows, labels=labels).loss
        step.backward()
        optimizer.step()
        optimizer.zero_grad()
        if (loss := step.item()) < 0.02:
            break
    assert all(says(*pair) for pair in TRAINED), f"the model of this test did not learn its rows: loss {loss}"
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def measure(tmp_path: Path, write_rows: Write) -> Callable[..., Evaluation]:
    suite = SuiteConfig(
        name="paint", category="skill", source=str(write_rows("paint.jsonl", [_row(*pair) for pair in HELD_OUT])), chat=True
    )

    def evaluate(model: Path, out: str, taught: Taught | None = None) -> Evaluation:
        config = EvaluationConfig(device="cpu", num_threads=1)
        evaluate_checkpoint(model, [suite], tmp_path / out, config=config, cache_dir=tmp_path / "cache", taught=taught)
        return load_evaluation(tmp_path / out)

    return evaluate


def _decide(candidate: Evaluation, champion: Evaluation) -> tuple[GateEvidence, Verdict]:
    evidence = GateEvidence(candidate, champion, {}, "paint", bootstrap=True)
    return evidence, decide(evidence, GatePolicy(accept_unmeasured=("general", "safety", "drift")))


def test_a_skill_that_is_measured_wrongly_is_held_and_says_so_everywhere(
    trained_model: Path, rich_model: Path, measure: Callable[..., Evaluation], write_rows: Write, tmp_path: Path
) -> None:
    clean = write_rows("clean.jsonl", [_row(*pair) for pair in TRAINED])
    champion, candidate = measure(rich_model, "champion"), measure(trained_model, "candidate", Taught("paint", clean))
    result = candidate.report.suite("paint")
    assert (result.score, result.reproduced) == (0.0, 1.0)
    assert champion.report.suite("paint").doubt == ""

    evidence, verdict = _decide(candidate, champion)
    assert verdict.decision is Decision.INCONCLUSIVE
    assert verdict.reasons[0] == "Inconclusive: paint may be measured wrongly."
    assert any(result.doubt in reason and f"{len(TRAINED)} of {len(TRAINED)} training rows" in reason for reason in verdict.reasons)
    assert {check.outcome for check in verdict.checks if check.subject == "paint"} == {"inconclusive"}
    steps = next_steps(verdict, Situation(version=2))
    assert steps[0].startswith("Do not train again yet: look at the answers to paint")

    rounds = [RoundEvaluation(0, None, champion), RoundEvaluation(1, "paint", candidate, decision=verdict.decision)]
    page = render_round(verdict, audit_forgetting(rounds), evidence, steps=steps, out=tmp_path / "report.html").read_text(encoding="utf-8")
    for text in (page, verdict_markdown(verdict)):
        assert result.doubt in text
        assert "paint may be measured wrongly" in text
    assert "the candidate reproduces 100 % of a sample of its training rows" in page
    assert "Do not train again yet" in page


def test_the_same_scores_without_the_rows_asked_back_are_a_block(
    trained_model: Path, rich_model: Path, measure: Callable[..., Evaluation]
) -> None:
    """What the doubt changes: nothing but that the model was seen to say its training rows."""
    _, verdict = _decide(measure(trained_model, "candidate"), measure(rich_model, "champion"))
    assert verdict.decision is Decision.BLOCK
    assert verdict.reasons[0] == "Blocked: paint was not learned."


def test_a_model_that_learned_nothing_is_blocked_although_its_rows_were_asked_back(
    rich_model: Path, measure: Callable[..., Evaluation], write_rows: Write
) -> None:
    clean = write_rows("clean.jsonl", [_row(*pair) for pair in TRAINED])
    _, verdict = _decide(measure(rich_model, "candidate", Taught("paint", clean)), measure(rich_model, "champion"))
    assert verdict.decision is Decision.BLOCK
