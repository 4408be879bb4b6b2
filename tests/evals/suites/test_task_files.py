"""An lm-eval task of one's own is known by every file behind it: what it includes, its functions, its data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_contracts.errors import EvaluationError
from evals.config import EvaluationConfig, SuiteConfig
from evals.harness.plan import named_digest
from evals.suites.task_files import definition_digest, task_files


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """A task that includes another, whose prompt is a function, over a local file."""
    (tmp_path / "base.yaml").write_text("output_type: multiple_choice\ntest_split: test\ndataset_path: json\n")
    (tmp_path / "prompts.py").write_text("from wording import ASK\n\n\ndef ask(doc):\n    return ASK + doc['q']\n")
    (tmp_path / "wording.py").write_text("ASK = 'Question: '\n")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"q": f"{n}?", "a": n % 2}) + "\n" for n in range(4)))
    path = tmp_path / "mine.yaml"
    path.write_text(
        "task: mine\ninclude: base.yaml\ndoc_to_text: !function prompts.ask\ndoc_to_choice: [no, yes]\ndoc_to_target: a\n"
        f"dataset_kwargs: {{data_files: {{test: {tmp_path}/rows.jsonl}}, cache_dir: {tmp_path}/arrow}}\n"
    )
    return path


def test_every_file_behind_a_task_is_found(task: Path) -> None:
    assert {path.name for path in task_files(task)} == {"mine.yaml", "base.yaml", "prompts.py", "wording.py", "rows.jsonl"}


@pytest.mark.parametrize("name", ["mine.yaml", "base.yaml", "prompts.py", "wording.py", "rows.jsonl"])
def test_an_edit_of_any_of_them_is_another_suite(task: Path, name: str) -> None:
    suite = SuiteConfig(name="mine", source=str(task))
    before = definition_digest(task), named_digest(suite, EvaluationConfig())
    edited = task.parent / name
    edited.write_text(edited.read_text() + "\n")
    after = definition_digest(task), named_digest(suite, EvaluationConfig())
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_a_copy_elsewhere_is_the_same_suite(task: Path, tmp_path: Path) -> None:
    relative = task.read_text().replace(f"{tmp_path}/rows.jsonl", "rows.jsonl").replace(f", cache_dir: {tmp_path}/arrow", "")
    task.write_text(relative)
    other = tmp_path / "moved" / "mine.yaml"
    other.parent.mkdir()
    for path in task_files(task):
        (other.parent / path.name).write_bytes(path.read_bytes())
    assert definition_digest(task) == definition_digest(other)


def test_an_include_that_is_no_yaml_is_named(task: Path) -> None:
    (task.parent / "base.yaml").write_text("a: [")
    with pytest.raises(EvaluationError, match=r"base\.yaml"):
        definition_digest(task)
