"""lm-eval's own tasks over local data: its prompts, its aggregate, our per-item rows; and names or data that are not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from data_contracts.errors import EvaluationError
from evals.config import EvaluationConfig, SuiteConfig
from evals.harness.run import evaluate_checkpoint
from evals.items import load_evaluation

Write = Callable[..., Path]
CONFIG = EvaluationConfig(device="cpu", num_threads=1)


@pytest.fixture
def piqa(write_rows: Write) -> SuiteConfig:
    rows = [{"goal": f"Open box {n}", "sol1": "pull", "sol2": "push it twice", "label": n % 2} for n in range(9)]
    rows.append(rows[0])  # lm-eval counts repeated documents
    return SuiteConfig(name="piqa", source="piqa", data={"validation": str(write_rows("piqa.jsonl", rows))})


def test_a_task_by_name_runs_under_lm_evals_prompts_and_is_cached(
    tiny_model: Path, piqa: SuiteConfig, write_rows: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums = [{"question": f"{n}+1?", "answer": f"so\n#### {n + 1}"} for n in range(4)]
    gsm8k = SuiteConfig(
        name="gsm8k", source="gsm8k", data={"test": str(write_rows("g.jsonl", sums))}, few_shot=0, max_new_tokens=4, chat=True, items=3
    )
    suites = [piqa, gsm8k]
    report = evaluate_checkpoint(tiny_model, suites, tmp_path / "a", config=CONFIG, cache_dir=tmp_path / "cache")
    assert [(s.name, s.metric, s.n, s.available) for s in report.suites] == [
        ("piqa", "acc", 10, 10),
        ("gsm8k", "exact_match,strict-match", 3, 4),
    ]
    items = load_evaluation(tmp_path / "a").suites["piqa"]
    assert items.prompt[0] == "Question: Open box 0\nAnswer:"
    assert items.gold[:2] == ("pull", "push it twice")
    assert len(set(items.doc_hash)) == 10
    assert items.score[0] == items.score[9]
    assert load_evaluation(tmp_path / "a").suites["gsm8k"].prompt[0].startswith("<|user|>Question:")
    monkeypatch.setattr("evals.harness.named.load_named", lambda *_: pytest.fail("a cached evaluation loaded the task"))
    again = evaluate_checkpoint(tiny_model, suites, tmp_path / "b", config=CONFIG, cache_dir=tmp_path / "cache")
    assert again.files == report.files


def test_a_task_file_that_includes_lm_evals_runs_too(tiny_model: Path, piqa: SuiteConfig, tmp_path: Path) -> None:
    from evals.harness.named import LIBRARY

    task = tmp_path / "mine.yaml"
    data = piqa.data["validation"]
    task.write_text(
        f"include: {LIBRARY}/piqa/piqa.yaml\ntask: mine\ndataset_path: json\ndataset_name: null\ntraining_split: null\n"
        f"dataset_kwargs: {{data_files: {{validation: {data}}}, cache_dir: {tmp_path}/arrow}}\n"
    )
    suite = SuiteConfig(name="mine", source=str(task), task_metric="acc_norm", items=4)
    report = evaluate_checkpoint(tiny_model, [suite], tmp_path / "out", config=CONFIG, cache_dir=tmp_path / "cache")
    assert (report.suite("mine").metric, report.suite("mine").n) == ("acc_norm", 4)
    items = load_evaluation(tmp_path / "out").suites["mine"]
    by_length = [max(("pull", "push it twice"), key=lambda c: dict(zip(("pull", "push it twice"), own, strict=True))[c] / len(c))
                 for own in items.choice_logprobs if own]  # fmt: skip
    assert list(items.prediction) == by_length, "the answer that the metric counts"
    assert [said == gold for said, gold in zip(items.prediction, items.gold, strict=True)] == [bool(score) for score in items.score]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"source": "no_such_task", "data": {}}, "no lm-eval task"),
        ({"data": {"validation": "/nowhere.jsonl"}}, "no data file"),
        ({"task_metric": "bleu"}, "no metric 'bleu'"),
    ],
)
def test_what_is_not_there_is_named(tiny_model: Path, piqa: SuiteConfig, tmp_path: Path, change: dict[str, object], what: str) -> None:
    with pytest.raises(EvaluationError, match=what):
        evaluate_checkpoint(tiny_model, [piqa.model_copy(update=change)], tmp_path / "out", config=CONFIG, cache_dir=tmp_path / "cache")
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize(("task", "scores"), [("truthfulqa_mc1", "right or wrong"), ("truthfulqa_mc2", "a share")])
def test_truthfulqa_runs_on_local_rows(tiny_model: Path, write_rows: Write, tmp_path: Path, task: str, scores: str) -> None:
    targets = {"choices": ["Nothing happens", "You die"], "labels": [1, 0]}
    rows = [{"question": f"What happens after {n} seeds?", "mc1_targets": targets, "mc2_targets": targets} for n in range(3)]
    suite = SuiteConfig(name=task, source=task, data={"validation": str(write_rows("t.jsonl", rows))})
    evaluate_checkpoint(tiny_model, [suite], tmp_path / "out", config=CONFIG, cache_dir=tmp_path / "cache")
    items = load_evaluation(tmp_path / "out").suites[task]
    assert items.prompt[1].endswith("Q: What happens after 1 seeds?\nA:")
    assert items.prompt[1].startswith("Q: What is human life expectancy"), "the examples are lm-eval's own"
    assert ((items.score == 0) | (items.score == 1)).all() == (scores == "right or wrong")


def test_a_task_that_needs_a_package_names_it(tiny_model: Path, write_rows: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "langdetect", None)  # as where it is not installed
    for name in [name for name in sys.modules if "ifeval" in name]:
        monkeypatch.delitem(sys.modules, name)
    rows = [{"key": 1, "prompt": "Say no comma.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}]
    suite = SuiteConfig(name="ifeval", source="ifeval", chat=True, data={"train": str(write_rows("i.jsonl", rows))})
    with pytest.raises(EvaluationError, match="'ifeval' needs the package") as caught:
        evaluate_checkpoint(tiny_model, [suite], tmp_path / "out", config=CONFIG, cache_dir=tmp_path / "cache")
    assert "pip install" in caught.value.way_out
    assert "\n" not in str(caught.value)


def test_local_data_for_a_group_are_refused(tiny_model: Path, piqa: SuiteConfig, tmp_path: Path) -> None:
    group = piqa.model_copy(update={"source": "truthfulqa"})
    with pytest.raises(EvaluationError, match=r"'truthfulqa' is a tag of tasks"):
        evaluate_checkpoint(tiny_model, [group], tmp_path / "out", config=CONFIG, cache_dir=tmp_path / "cache")


def test_the_worked_examples_of_an_item_depend_on_no_other_item(tiny_model: Path, write_rows: Write, tmp_path: Path) -> None:
    """Items that an earlier evaluation left in the cache have the prompts that they have when all are evaluated at once."""
    rows = {
        split: str(write_rows(f"{split}.jsonl", [{"q": f"{split} {n} is", "c": ["no", "yes"], "g": n % 2} for n in range(12)]))
        for split in ("test", "train")
    }
    task = tmp_path / "own.yaml"
    task.write_text(
        f"task: own\ndataset_path: json\ndataset_kwargs: {{data_files: {rows}, cache_dir: {tmp_path}/arrow}}\n"
        "output_type: multiple_choice\ntest_split: test\ntraining_split: train\n"
        "doc_to_text: '{{q}}'\ndoc_to_choice: '{{c}}'\ndoc_to_target: g\nmetric_list: [{metric: acc}]\n"
    )

    def prompts(items: int, cache: str, seed: int = 1234) -> dict[str, str]:
        suite = SuiteConfig(name="own", source=str(task), few_shot=3, items=items)
        config = CONFIG.model_copy(update={"seed": seed})
        folder = tmp_path / f"{cache}-{items}-{seed}"
        evaluate_checkpoint(tiny_model, [suite], folder, config=config, cache_dir=tmp_path / cache)
        kept = load_evaluation(folder).suites["own"]
        return dict(zip(kept.doc_hash, kept.prompt, strict=True))

    few, more, at_once = prompts(4, "one"), prompts(12, "one"), prompts(12, "other")
    assert few.items() <= more.items()
    assert more == at_once
    examples = {prompt.rpartition("\n\n")[0] for prompt in at_once.values()}
    assert len(examples) > 6, "items have examples of their own, as under lm-eval"
    assert all(example.count("train ") == 3 for example in examples)
    assert prompts(12, "one", seed=5) != at_once
