"""Every suite of the config is compared with a drop: plain files, patterns, rows that a template turns into questions, lm-eval's tasks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from data_contracts.config import ContractConfig
from data_contracts.errors import DropError, EvaluationError
from data_contracts.matching.heldout_items import read_suite
from data_contracts.validate import validate_drop
from evals.config import EvaluationConfig, SuiteConfig
from flows.text.held_out import suite_files

_FAR = "the lighthouse keeper counted every passing ship while the {} gulls argued about the weather on rock number {} of the northern reef"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, Iterable[dict[str, Any]]], Path]:
    def rows(name: str, values: Iterable[dict[str, Any]]) -> Path:
        path = tmp_path / "given" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps(value) + "\n" for value in values))
        return path

    return rows


def texts(path: Path) -> list[tuple[str, str]]:
    return [(item.questions[0], item.answer) for item in read_suite(path, max_line_bytes=1 << 20)]


def test_a_pattern_and_a_template_are_read_as_the_model_is_asked(write: Callable[..., Path], tmp_path: Path) -> None:
    plain = [write(f"part-{n}.jsonl", [{"prompt": f"Which is part {n}?", "answer": "this"}]) for n in (1, 2)]
    raw = write("raw.jsonl", [{"prompt": _FAR.format("grey", n), "choices": ["pull", "push"], "gold": n % 2} for n in range(3)])
    suites = (
        SuiteConfig(name="parts", source=str(plain[0].parent / "part-*.jsonl")),
        SuiteConfig(name="goals", source=str(raw), prompt="Do it: {{ prompt }}"),
    )
    *files, written = suite_files(EvaluationConfig(suites=suites), tmp_path / "state")
    assert files == plain
    assert texts(written)[1] == (f"Do it: {_FAR.format('grey', 1)}", "push")
    before = written.stat().st_mtime_ns
    assert suite_files(EvaluationConfig(suites=suites), tmp_path / "state")[-1] == written
    assert written.stat().st_mtime_ns == before, "made once"
    told = [{"prompt": f"Say it {n}.", "completion": f"number {n} is {n * n}"} for n in range(60)]
    drop = write("drop.jsonl", [*told, {"prompt": _FAR.format("grey", 1), "completion": "pull"}])
    manifest = validate_drop(drop, tmp_path / "out", skill="sayings", config=ContractConfig(), suites=[*files, written])
    assert {found.check: found.rows for found in manifest.findings}["contamination"] == 1


def test_documents_of_an_lm_eval_task_are_compared_too_and_a_suite_that_cannot_be_read_refuses(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    data = write("piqa.jsonl", [{"goal": f"Open box {n}", "sol1": "pull", "sol2": "push it twice", "label": n % 2} for n in range(4)])
    piqa = SuiteConfig(name="piqa", source="piqa", data={"validation": str(data)})
    [written] = suite_files(EvaluationConfig(suites=(piqa,)), tmp_path / "state")
    assert texts(written)[:2] == [("Question: Open box 0\nAnswer:", "pull"), ("Question: Open box 1\nAnswer:", "push it twice")]
    with pytest.raises(EvaluationError, match="no lm-eval task"):
        suite_files(EvaluationConfig(suites=(piqa.model_copy(update={"source": "no_such_task", "data": {}}),)), tmp_path / "state")
    [absent] = suite_files(EvaluationConfig(suites=(SuiteConfig(name="gone", source=str(tmp_path / "gone.jsonl")),)), tmp_path / "state")
    with pytest.raises(DropError, match="does not exist"):
        validate_drop(data, tmp_path / "out", skill="boxes", config=ContractConfig(), suites=[absent])
