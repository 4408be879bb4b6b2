"""What an evaluation depends on, and what of it the cache already has."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_contracts.errors import EvaluationError
from evals.config import EvaluationConfig, SuiteConfig
from evals.harness.plan import Planner, evaluation_identity, prefer_local_data


def test_the_identity_of_an_evaluation_is_what_is_asked_and_not_where_it_lies(tmp_path: Path) -> None:
    def identity(folder: str, answer: str, **fields: object) -> list[dict[str, object]]:
        path = tmp_path / folder / "s.jsonl"
        path.parent.mkdir(exist_ok=True)
        rows = [{"q": f"q{n}", "a": answer if n == 1 else "x"} for n in range(4)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        path.with_name("t.jsonl").write_text(json.dumps({"q": "more", "a": "x"}) + "\n")  # the pattern's alone
        shots = tmp_path / folder / "shots" / "s.jsonl"
        shots.parent.mkdir(exist_ok=True)
        shots.write_text(json.dumps({"q": "shot", "a": str(fields.pop("shot", "y"))}) + "\n")
        source = str(path.with_name("*.jsonl") if fields.pop("pattern", False) else path)
        suite = SuiteConfig(
            name="s",
            source=source,
            prompt="{{ q }}",
            gold="{{ a }}",
            few_shot=1,
            few_shot_source=str(shots),
            **fields,  # type: ignore[arg-type]
        )
        return evaluation_identity([suite], EvaluationConfig(), tmp_path / "cache")

    first = identity("a", "y")
    assert identity("b", "y") == first
    for other in (identity("a", "z"), identity("a", "y", shot="z"), identity("a", "y", margin=0.1), identity("a", "y", pattern=True)):
        assert other != first


Write = Callable[..., Path]
Rows = list[dict[str, Any]]


def test_local_data_take_the_place_of_the_hub_where_they_are(write_rows: Write, choice_rows: Rows, tmp_path: Path) -> None:
    write_rows("piqa/suite.jsonl", choice_rows)
    suite = SuiteConfig(name="piqa", source="piqa", items=7, local={"source": "piqa/suite.jsonl", "chat": True})
    local = prefer_local_data(suite, EvaluationConfig(data_folder=str(tmp_path)))
    assert (local.name, local.source, local.chat, local.items) == ("piqa", str(tmp_path / "piqa/suite.jsonl"), True, 7)
    assert prefer_local_data(suite, EvaluationConfig(data_folder=str(tmp_path / "absent"))) == suite


def test_every_file_that_local_names_is_in_the_data_folder(write_rows: Write, choice_rows: Rows, tmp_path: Path) -> None:
    """The worked examples were looked for where the command was started."""
    for name in ("piqa/suite.jsonl", "piqa/shots.jsonl"):
        write_rows(name, choice_rows)
    fields = {"source": "piqa/suite.jsonl", "few_shot": 1, "few_shot_source": "piqa/shots.jsonl", "data": {"test": "piqa/suite.jsonl"}}
    local = prefer_local_data(SuiteConfig(name="piqa", source="piqa", local=fields), EvaluationConfig(data_folder=str(tmp_path)))
    assert local.few_shot_source == str(tmp_path / "piqa/shots.jsonl")
    assert local.data == {"test": str(tmp_path / "piqa/suite.jsonl")}


def test_a_metric_of_lm_eval_that_is_better_when_lower_is_read_so(write_rows: Write, tmp_path: Path) -> None:
    """As of crows_pairs (share of stereotypes preferred) or realtoxicityprompts: a loss was counted as a gain."""
    from evals.harness.named import LIBRARY

    data = str(write_rows("p.jsonl", [{"goal": f"Open box {n}", "sol1": "pull", "sol2": "push", "label": n % 2} for n in range(4)]))
    task = tmp_path / "mine.yaml"
    task.write_text(
        f"include: {LIBRARY}/piqa/piqa.yaml\ntask: mine\ndataset_path: json\ndataset_name: null\ntraining_split: null\n"
        f"dataset_kwargs: {{data_files: {{validation: {data}}}, cache_dir: {tmp_path}/arrow}}\n"
        "metric_list:\n  - {metric: acc, aggregation: mean, higher_is_better: false}\n"
        "  - {metric: acc_norm, aggregation: mean, higher_is_better: true}\n"
    )

    def better(**fields: Any) -> bool:
        return Planner("", "", EvaluationConfig(), tmp_path / "cache").facts(SuiteConfig(name="s", **fields)).higher_is_better

    assert not better(source=str(task))
    assert better(source=str(task), task_metric="acc_norm")
    assert better(source=str(task), higher_is_better=True), "the suite's own word counts"


def test_a_direction_that_is_set_later_is_not_the_one_of_the_note(write_rows: Write, tmp_path: Path) -> None:
    rows = [{"goal": f"Open box {n}", "sol1": "pull", "sol2": "push", "label": n % 2} for n in range(4)]
    suite = SuiteConfig(name="piqa", source="piqa", data={"validation": str(write_rows("p.jsonl", rows))})
    planner = Planner("", "", EvaluationConfig(), tmp_path / "cache")
    said = [planner.facts(suite.model_copy(update={"higher_is_better": given})).higher_is_better for given in (False, None, False, True)]
    assert said == [False, True, False, True]


def test_a_drift_suite_of_questions_is_refused(write_rows: Write, choice_rows: Rows, tmp_path: Path) -> None:
    """The gate reads drift as bits per byte: a lost accuracy passed as a fall, a gained one blocked as a rise."""
    planner = Planner("0" * 64, "1" * 64, EvaluationConfig(), tmp_path / "cache")
    local = SuiteConfig(name="lamb", source=str(write_rows("c.jsonl", choice_rows)), category="drift")
    data = write_rows("p.jsonl", [{"goal": f"Open box {n}", "sol1": "pull", "sol2": "push", "label": n % 2} for n in range(4)])
    named = SuiteConfig(name="piqa", source="piqa", category="drift", data={"validation": str(data)})
    for suite in (local, named):
        with pytest.raises(EvaluationError, match="is a drift suite scored by acc; drift is measured in bits per byte"):
            planner.plan(suite)
