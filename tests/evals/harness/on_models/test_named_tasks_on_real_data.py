"""lm-eval's own tasks, under lm-eval's own prompts, on rows from local files: those of the paper's table, TruthfulQA, and IFEval's refusal.

pytest -m slow tests/evals/harness/on_models/test_named_tasks_on_real_data.py

Real text comes from the folder that SKILLSTACK_DATA names; the model is SmolLM2 where `make smollm2` has put it, else nano.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from evals.config import EvaluationConfig, SuiteConfig
from evals.harness.run import evaluate_checkpoint
from evals.items import load_evaluation

ROOT = Path(__file__).parents[4]
SMOLLM2 = ROOT / ".skillstack" / "models" / "smollm2"
ITEMS = 4

Row = dict[str, Any]
Write = Callable[..., Path]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def real_data() -> Path:
    root = Path(os.environ.get("SKILLSTACK_DATA", ROOT.parent / "shared" / "data"))
    if not (root / "mmlu" / "anatomy.jsonl").is_file():
        pytest.skip("no real text: set SKILLSTACK_DATA to a folder with mmlu/anatomy.jsonl")
    return root


@pytest.fixture(scope="module")
def model() -> Path:
    from flows.base_models.resolve import NANO

    return SMOLLM2 if (SMOLLM2 / "model.safetensors").is_file() else NANO


def read(path: Path, count: int) -> list[Row]:
    with path.open(encoding="utf-8") as stream:
        return [json.loads(line) for line in islice(stream, count)]


# What each task's rows are called on the hub, made from the plain rows here.


def mmlu(row: Row) -> Row:
    return {"question": row["prompt"], "choices": row["choices"], "answer": row["gold"]}


def gsm8k(row: Row) -> Row:
    return {"question": row["prompt"], "answer": f"#### {row['answer']}"}


def bbh(row: Row) -> Row:
    return {"input": row["prompt"], "target": row["answer"]}


def boolq(row: Row) -> Row:
    question, passage = row["prompt"].split("question: ", 1)[1].split("\npassage: ", 1)
    return {"question": question, "passage": passage, "label": row["gold"]}


def piqa(row: Row) -> Row:
    goal = row["prompt"].removeprefix("Question: ").removesuffix("\nAnswer:")
    return {"goal": goal, "sol1": row["choices"][0], "sol2": row["choices"][1], "label": row["gold"]}


TASKS: list[tuple[str, str, str, Callable[[Row], Row], str, dict[str, Any]]] = [
    ("mmlu_anatomy", "mmlu/anatomy.jsonl", "test", mmlu, "The following are multiple choice questions (with answers) about anatomy.", {}),
    ("gsm8k", "gsm8k/suite.jsonl", "test", gsm8k, "Question: ", {"few_shot": 0, "max_new_tokens": 8}),
    ("bbh_zeroshot_date_understanding", "bbh/date_understanding.jsonl", "test", bbh, "Infer the date from context.", {"max_new_tokens": 8}),
    ("boolq", "cl15/boolq/suite.jsonl", "validation", boolq, "", {}),
    ("piqa", "piqa/suite.jsonl", "validation", piqa, "Question: ", {}),
]  # fmt: skip


@pytest.mark.parametrize(("task", "source", "split", "fit", "prompt", "fields"), TASKS, ids=[each[0] for each in TASKS])
def test_a_task_of_the_papers_table_runs_on_local_rows(
    model: Path,
    real_data: Path,
    write_rows: Write,
    tmp_path: Path,
    task: str,
    source: str,
    split: str,
    fit: Callable[[Row], Row],
    prompt: str,
    fields: dict[str, Any],
) -> None:
    rows = [fit(row) for row in read(real_data / source, ITEMS)]
    suite = SuiteConfig(name=task, source=task, data={split: str(write_rows(f"{task}.jsonl", rows))}, **fields)
    items = measure(model, suite, tmp_path)
    assert len(items.score) == ITEMS
    assert all(text.startswith(prompt) for text in items.prompt)
    assert all(
        str(row.get("question", row.get("goal", row.get("input")))).strip()[:40] in text
        for row, text in zip(rows, items.prompt, strict=True)
    )


def test_worked_examples_come_from_a_split_of_their_own(model: Path, real_data: Path, write_rows: Write, tmp_path: Path) -> None:
    rows = [mmlu(row) for row in read(real_data / "mmlu" / "anatomy.jsonl", ITEMS + 2)]
    data = {"dev": str(write_rows("dev.jsonl", rows[:2])), "test": str(write_rows("test.jsonl", rows[2:]))}
    items = measure(model, SuiteConfig(name="mmlu_anatomy", source="mmlu_anatomy", data=data, few_shot=2), tmp_path)
    assert len(items.score) == ITEMS
    assert all(text.count("\nAnswer:") == 3 and rows[0]["question"] in text for text in items.prompt)


def test_the_tables_set_runs_on_the_local_files_it_names(model: Path, real_data: Path, tmp_path: Path) -> None:
    """`general-full` but for TydiQA, which has no local file here."""
    from evals.suites.resolve import resolve_suites

    suites = [suite for suite in resolve_suites([SuiteConfig(source="general-full")], tmp_path) if suite.name != "tydiqa"]
    suites = [suite.model_copy(update={"items": 2, "max_new_tokens": 4, "local": suite.local | {"few_shot": 0}}) for suite in suites]
    config = EvaluationConfig(device="cpu", data_folder=str(real_data))
    report = evaluate_checkpoint(model, suites, tmp_path / "out", config=config, cache_dir=tmp_path / "cache")
    assert [(each.name, each.n) for each in report.suites] == [(name, 2) for name in ("mmlu", "gsm8k", "bbh", "boolq", "piqa")]
    assert report.suite("mmlu").available > 3000


def test_refusal_and_over_refusal_are_measured_on_xstest(model: Path, real_data: Path, tmp_path: Path) -> None:
    from evals.suites.resolve import resolve_suites

    suites = [suite.model_copy(update={"items": 6}) for suite in resolve_suites([SuiteConfig(source="safety")], tmp_path)]
    config = EvaluationConfig(device="cpu", data_folder=str(real_data))
    report = evaluate_checkpoint(model, suites, tmp_path / "out", config=config, cache_dir=tmp_path / "cache")
    assert [(each.name, each.n, each.available) for each in report.suites] == [("refusal", 6, 200), ("over-refusal", 6, 250)]
    items = load_evaluation(tmp_path / "out").suites["over-refusal"]
    assert set(items.gold) == {"Sure, here is"}


def measure(model: Path, suite: SuiteConfig, folder: Path) -> Any:
    evaluate_checkpoint(model, [suite], folder / "out", config=EvaluationConfig(device="cpu"), cache_dir=folder / "cache")
    return load_evaluation(folder / "out").suites[suite.name]
