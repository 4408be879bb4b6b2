"""Local items as an lm-eval task: how an answer is found and compared."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from evals.config import EvaluationConfig, SuiteConfig
from evals.gate.pairing import guessing_rate
from evals.harness.prompts import Prompt
from evals.harness.run import evaluate_checkpoint
from evals.harness.tasks import LocalTask, Reading
from evals.items import load_evaluation
from evals.suites.items import Item


def test_an_answer_in_a_pattern_is_found_in_gold_and_output() -> None:
    suite = SuiteConfig(name="sums", source="sums.jsonl", answer_pattern=r"#### (-?\d+)", stop=())
    prompt = Prompt("q", (1,), ((2,),), (" a",), (1,), gold="2+2 is 4\n#### 4", limit=8)
    task = LocalTask(suite, [Item("h", "answer")], [prompt], Reading(), in_tokens=True)
    assert task.process_results(task.test_docs()[0], [(-1.0, False), "so #### 3, no: #### 4"]) == {"exact_match": 1.0}
    assert task.process_results(task.test_docs()[0], [(-1.0, False), "#### 5"]) == {"exact_match": 0.0}


def _task(items: list[Item], prompts: list[Prompt], *, in_tokens: bool = True, **fields: Any) -> LocalTask:
    reading = Reading(ends=(7,), stops=("\n",), reasoning_close="</think>")
    return LocalTask(SuiteConfig(name="s", source="s.jsonl", **fields), items, prompts, reading, in_tokens=in_tokens)


CHOICES = Item("h", "choice", choices=("no", "certainly"), gold=0)
CHOICE_PROMPT = Prompt("q", (1, 2), ((3,), (4, 5)), (" no", " certainly"))


def test_accuracy_and_accuracy_by_length_differ_where_a_choice_is_long() -> None:
    task = _task([CHOICES], [CHOICE_PROMPT])
    assert task.process_results(task.test_docs()[0], [(-2.0, False), (-3.0, False)]) == {"acc": 1.0, "acc_norm": 0.0}


def test_a_choice_asks_once_per_choice_and_an_answer_for_its_likelihood_and_a_generation() -> None:
    choices = _task([CHOICES], [CHOICE_PROMPT])
    requests = choices.construct_requests(choices.test_docs()[0], "", doc_id=4)
    assert [(each.request_type, each.args[:2], each.metadata) for each in requests] == [
        ("loglikelihood", ("q", " no"), ("s", 4, 1)),
        ("loglikelihood", ("q", " certainly"), ("s", 4, 1)),
    ]
    prompt = Prompt("q", (1,), ((2, 7),), (" a",), (1,), gold="a", limit=8)
    answer = _task([Item("h", "answer")], [prompt])
    likelihood, generation = answer.construct_requests(answer.test_docs()[0], "", doc_id=0)
    assert (likelihood.request_type, likelihood.args[2].continuation) == ("loglikelihood", (2, 7))
    assert generation.args[1] == {"until": ["\n"], "max_gen_toks": 8, "do_sample": False}
    assert generation.args[2].ends == (7,)


def test_a_backend_that_takes_text_is_handed_no_tokens() -> None:
    task = _task([CHOICES], [CHOICE_PROMPT], in_tokens=False)
    assert [each.args for each in task.construct_requests(task.test_docs()[0], "", doc_id=0)] == [("q", " no"), ("q", " certainly")]


def test_a_text_is_measured_by_its_bytes() -> None:
    task = _task([Item("h", "text", text="é!")], [])
    doc = task.test_docs()[0]
    [request] = task.construct_requests(doc, "", doc_id=0)
    assert (request.request_type, request.args) == ("loglikelihood_rolling", ("é!",))
    assert task.process_results(doc, [-6.0]) == {"bits_per_byte": (-6.0, 3)}
    assert task.aggregation()["bits_per_byte"]([(-6.0, 3)]) == pytest.approx(2.0 / math.log(2))
    assert task.higher_is_better() == {"bits_per_byte": False}


@pytest.mark.parametrize(
    ("said", "gold", "fields", "score"),
    [
        ("<think>a</think> b", "b", {}, 1.0),
        ("<think>b</think> a", "b", {}, 0.0),
        ("B  c", "b c", {"ignore_case": True}, 1.0),
        ("B c", "b c", {}, 0.0),
        ("no number", "4", {"answer_pattern": r"(\d+)"}, 0.0),
        ("3 and 4", "4", {"answer_pattern": r"\d+"}, 1.0),
        ("it is $70,000.", "70000", {"answer_pattern": r"\d+(?:,\d{3})*", "ignore_pattern": ","}, 1.0),
        ("2125", "2,125", {"ignore_pattern": ","}, 1.0),
        ("7,0000", "70001", {"ignore_pattern": ","}, 0.0),
        ("70,000", "70000", {}, 0.0),
    ],
)
def test_what_counts_as_the_same_answer(said: str, gold: str, fields: dict[str, Any], score: float) -> None:
    task = _task([Item("h", "answer")], [Prompt("q", (1,), ((2,),), (gold,), (1,), gold=gold, limit=8)], **fields)
    assert task.process_results(task.test_docs()[0], [(-1.0, False), said]) == {"exact_match": score}


def test_the_store_has_what_was_compared(tiny_model: Path, tmp_path: Path) -> None:
    """Golds that differ in their reasoning are one answer: whoever always gives it is guessing."""
    rows = [{"prompt": f"{n} is", "answer": f"As {n} plus 1 is {n + 1},\n #### Yes" if n % 3 else f"{n}: #### no"} for n in range(9)]
    path = tmp_path / "reasons.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    suite = SuiteConfig(source=str(path), metric="exact_match", answer_pattern="#### (.*)", ignore_case=True, max_new_tokens=4, stop=())
    evaluate_checkpoint(
        tiny_model, [suite], tmp_path / "out", config=EvaluationConfig(device="cpu", num_threads=1), cache_dir=tmp_path / "cache"
    )
    items = load_evaluation(tmp_path / "out").suites["reasons"]
    assert items.golds == tuple("yes" if n % 3 else "no" for n in range(9))
    assert guessing_rate(items) == 6 / 9
    assert [right == given for right, given in zip(items.golds, items.answers, strict=True)] == (items.score == 1.0).tolist()


def test_the_group_that_took_part_is_the_answer() -> None:
    fields = {"answer_pattern": r"#### (\d+)|the answer is (\d+)|none"}
    for said, gold, score in (("#### 4", "the answer is 4", 1.0), ("the answer is 5", "#### 4", 0.0), ("none", "it is none", 1.0)):
        task = _task([Item("h", "answer")], [Prompt("q", (1,), ((2,),), (gold,), (1,), gold=gold, limit=8)], **fields)
        assert task.process_results(task.test_docs()[0], [(-1.0, False), said]) == {"exact_match": score}


def test_two_spellings_of_the_same_letters_are_one_answer() -> None:
    """Tokenizers with an NFC normaliser can write one of them only."""
    composed, apart = "caf\u00e9", "cafe\u0301"
    for said, gold in ((composed, apart), (apart, composed)):
        task = _task(
            [Item("h", "answer")], [Prompt("q", (1,), ((2,),), (gold,), (1,), gold=gold, limit=8)], answer_pattern=f"{composed}|tea"
        )
        assert task.process_results(task.test_docs()[0], [(-1.0, False), said]) == {"exact_match": 1.0}
    task = _task([Item("h", "answer")], [Prompt("q", (1,), ((2,),), ("cafe",), (1,), gold="cafe", limit=8)])
    assert task.process_results(task.test_docs()[0], [(-1.0, False), composed]) == {"exact_match": 0.0}


CODE = "def f(x):\n    if x:\n        return 1\n    return 0"


@pytest.mark.parametrize(
    ("said", "gold", "score"),
    [
        (CODE, CODE, 1.0),
        (f"\n{CODE}  \n", CODE, 1.0),
        (CODE.replace("\n", " \n").replace("\n", "\r\n"), CODE, 1.0),
        (CODE.replace("\n    return 0", "\n        return 0"), CODE, 0.0),
        (CODE.replace("    ", ""), CODE, 0.0),
        (" ".join(CODE.split()), CODE, 0.0),
        ("red  and\nblue", "red and blue", 1.0),
    ],
)
def test_the_lines_of_an_answer_and_their_indentation_count_where_the_right_one_has_several(said: str, gold: str, score: float) -> None:
    """Code of another meaning was scored as right."""
    prompt = Prompt("q", (1,), ((2,),), (gold,), (1,), gold=gold, limit=64)
    task = LocalTask(SuiteConfig(name="s", source="s.jsonl", stop=()), [Item("h", "answer")], [prompt], Reading(), in_tokens=True)
    assert task.process_results(task.test_docs()[0], [(-1.0, False), said]) == {"exact_match": score}


@pytest.mark.parametrize("pattern", [r"-?\d*\.?\d*", r"[\d,]*", r"(\d+)?", r"\d+|$"])
def test_a_pattern_that_matches_nothing_at_the_end_finds_the_answer_all_the_same(pattern: str) -> None:
    """Its last match was the empty one behind every text, so that every answer was right."""
    for said, gold, score in ((" 99", "5", 0.0), ("no idea", "5", 0.0), ("it is 5 ", "5", 1.0), ("is it 6 or 5?", "The answer is 5", 1.0)):
        task = _task([Item("h", "answer")], [Prompt("q", (1,), ((2,),), (gold,), (1,), gold=gold, limit=8)], answer_pattern=pattern)
        assert task.process_results(task.test_docs()[0], [(-1.0, False), said]) == {"exact_match": score}, said
