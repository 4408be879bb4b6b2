"""lm-eval's own tasks and groups as suites: `source: piqa`, with the hub's data or a local file, and lm-eval's own prompts.

Which YAML defines a name is found by looking for the name in the files: lm-eval's own index of all tasks takes 15 to 77 seconds.
"""

from __future__ import annotations

import json
import logging
import re
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import lm_eval
import lm_eval.api.task
import transformers
import yaml
from lm_eval.tasks import TaskManager
from tqdm import tqdm

from data_contracts.digests import value_digest
from data_contracts.errors import EvaluationError
from evals.config import SuiteConfig
from evals.suites.items import Item

LIBRARY = Path(lm_eval.__file__).parent / "tasks"


@dataclass
class NamedSuite:
    """The tasks behind one suite, and its items: `places[doc_hash]` is (task, number of the document)."""

    suite: SuiteConfig
    tasks: dict[str, Any]
    items: list[Item]
    places: dict[str, tuple[str, int]] = field(default_factory=dict)

    def samples(self, wanted: Sequence[str]) -> dict[str, list[int]]:
        """{task: numbers of the wanted documents, ascending}, as `evaluate` takes it."""
        chosen: dict[str, list[int]] = {}
        for doc_hash in wanted:
            task, number = self.places[doc_hash]
            chosen.setdefault(task, []).append(number)
        return {task: sorted(numbers) for task, numbers in chosen.items()}


def silence_bars() -> None:
    """One progress bar, the caller's: lm-eval, datasets and transformers draw their own and log what is no news here."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    lm_eval.api.task.tqdm = partial(tqdm, disable=True)
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()


def load_named(suite: SuiteConfig, cache_dir: Path, seed: int) -> NamedSuite:
    """Load the task or group and number its items. Raises EvaluationError where there is none, or its data cannot be had."""
    silence_bars()
    try:
        tasks = _load_tasks(suite, cache_dir)
    except EvaluationError:
        raise
    except ImportError as error:
        package = error.name or " ".join(str(error).split())
        what = f"lm-eval task {suite.source!r} needs the package {package!r}, which is not installed"
        raise EvaluationError(suite.name, what, f"pip install {package}, or leave the suite out of evaluation.suites") from error
    except Exception as error:  # datasets, the hub, jinja and lm-eval raise many types
        what = f"lm-eval task {suite.source!r} does not load: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise EvaluationError(
            suite.name, what, "give its data as local files (`data:`), or evaluate where the hub can be reached"
        ) from error
    named = NamedSuite(suite, tasks, [])
    for name, task in tasks.items():
        if suite.few_shot is not None:
            task.set_config(key="num_fewshot", value=suite.few_shot)
        elif task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        if suite.max_new_tokens and task.get_config("output_type") == "generate_until":
            task.set_config(key="generation_kwargs", value={"max_gen_toks": suite.max_new_tokens}, update=True)
        _draw_examples_by_document(task, seed)
        _number_documents(named, name, task)
    if not named.items:
        raise EvaluationError(suite.name, f"lm-eval task {suite.source!r} has no items", "check its data")
    return named


def _load_tasks(suite: SuiteConfig, cache_dir: Path) -> dict[str, Any]:
    if suite.source.endswith((".yaml", ".yml")):
        return dict(TaskManager(include_defaults=False).load([suite.source])["tasks"])
    manager = TaskManager(include_defaults=False, include_path=_families(suite.source))
    if suite.source not in manager.task_index:
        raise EvaluationError(suite.name, f"there is no lm-eval task, group or tag {suite.source!r}", "lm_eval ls tasks shows the names")
    if not suite.data:
        return dict(manager.load([suite.source])["tasks"])
    return _with_local_data(suite, manager, cache_dir)


def _families(name: str) -> list[str]:
    """Folders of lm-eval's library in which the name is defined as task, group or tag."""
    word = re.compile(
        rb"^\s*(?:-\s*)?['\"]?(?:(?:task|group|tag)['\"]?\s*:\s*)?['\"]?" + re.escape(name.encode()) + rb"['\"]?\s*$", re.MULTILINE
    )
    found = {path.relative_to(LIBRARY).parts[0] for path in LIBRARY.rglob("*.yaml") if word.search(path.read_bytes())}
    return [str(LIBRARY / family) for family in sorted(found)]


def _with_local_data(suite: SuiteConfig, manager: TaskManager, cache_dir: Path) -> dict[str, Any]:
    """The task under its own prompts and local rows: a YAML that includes the task's and replaces where its data come from."""
    entry = manager.task_index[suite.source]
    if entry.kind.name != "TASK" or entry.yaml_path is None:
        what = f"lm-eval's {suite.source!r} is a {entry.kind.name.lower()} of tasks, and `data` is one task's"
        raise EvaluationError(suite.name, what, "name its tasks as suites of their own, each with its data")
    splits = {split: str(Path(path).absolute()) for split, path in suite.data.items()}
    missing = [path for path in splits.values() if not Path(path).is_file()]
    if missing:
        raise EvaluationError(suite.name, f"has no data file {missing}", "check `data:`")
    content = {
        "include": str(entry.yaml_path),
        "task": suite.source,
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": splits, "cache_dir": str(cache_dir / "datasets")},
    }
    for role in ("training_split", "validation_split", "test_split", "fewshot_split"):
        if entry.cfg.get(role) not in (None, *splits):
            content[role] = None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "task.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return dict(TaskManager(include_defaults=False).load([str(path)])["tasks"])


def _draw_examples_by_document(task: Any, seed: int) -> None:
    """A document's worked examples follow from the seed and the document: lm-eval draws on from one document to the next, and a prompt
    would depend on which documents were evaluated before."""
    fewshot_context = task.fewshot_context

    def drawn(doc: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        task.set_fewshot_seed(seed=int(value_digest([seed, _document_text(doc)])[:16], 16))
        return fewshot_context(doc, *args, **kwargs)

    task.fewshot_context = drawn


def _number_documents(named: NamedSuite, name: str, task: Any) -> None:
    """One item per document, with its worked examples before it. lm-eval counts repeated documents, so the digest says which it is."""
    seen: Counter[str] = Counter()
    shots = _shots_digest(task)
    for number, doc in enumerate(task.eval_docs):
        content = value_digest([name, shots, _document_text(doc)])
        seen[content] += 1
        doc_hash = value_digest([content, seen[content]])
        named.places[doc_hash] = (name, number)
        named.items.append(Item(doc_hash, "choice"))


def _shots_digest(task: Any) -> str:
    """Digest of the documents that worked examples are drawn from; empty where none are shown."""
    if not task.get_config("num_fewshot"):
        return ""
    return value_digest([json.dumps(doc, sort_keys=True, default=str) for doc in task.fewshot_docs() or ()])


def _document_text(doc: Mapping[str, Any]) -> str:
    return json.dumps(dict(doc), sort_keys=True, default=str)
