"""The text of all suites of the config, as files that a drop is compared with: a drop must not contain items of a suite."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from data_contracts.digests import file_digest, value_digest
from data_contracts.files import write_rows
from evals.config import EvaluationConfig, SuiteConfig
from evals.harness.plan import named_digest, prefer_local_data
from evals.suites.items import Item, load_items, source_files, turn_text

_AS_IT_IS = SuiteConfig.model_fields["prompt"].default


def suite_files(evaluation: EvaluationConfig, state_dir: Path) -> list[Path]:
    """One or more JSONL files per suite, with a question and an answer per item.

    A file without a prompt template is used directly. Rendered prompts, and the documents of lm-eval's own tasks, are written once to files
    below `state_dir`. Raises EvaluationError if a suite cannot be read (fails closed).
    """
    found = list(evaluation.more_items.values())
    for suite in evaluation.suites:
        chosen = prefer_local_data(suite, evaluation)
        if chosen.is_file and chosen.prompt == _AS_IT_IS:
            found += source_files(chosen.source)
        else:
            found.append(_written(chosen, evaluation, state_dir / "held-out-text"))
    return found


def _written(suite: SuiteConfig, evaluation: EvaluationConfig, folder: Path) -> Path:
    """The file with the suite's text, written once per content."""
    if suite.is_file:
        files = [file_digest(path) for path in source_files(suite.source) if path.is_file()]
        digest = value_digest([suite.model_dump(mode="json"), files])
    else:
        digest = named_digest(suite, evaluation)
    path = folder / digest[:16] / suite.name / "suite.jsonl"
    if not path.is_file():
        rows = map(_item_text, load_items(suite)) if suite.is_file else _document_texts(suite, evaluation, folder)
        write_rows(path, _with_question(rows))
    return path


def _item_text(item: Item) -> dict[str, str]:
    asked = turn_text(item.turns[-1]) if item.turns else item.prompt or item.text
    return {"prompt": asked, "answer": item.answer}


def _document_texts(suite: SuiteConfig, evaluation: EvaluationConfig, folder: Path) -> Iterator[dict[str, str]]:
    """lm-eval's own prompt and target of each document, without worked examples."""
    from evals.harness.named import load_named

    for task in load_named(suite, folder / "data", evaluation.seed).tasks.values():
        for document in task.eval_docs:
            target: Any = task.doc_to_target(document)
            choices = task.doc_to_choice(document) if isinstance(target, int) and task.config.doc_to_choice is not None else None
            answer = choices[target] if choices and 0 <= target < len(choices) else target
            yield {"prompt": str(task.doc_to_text(document)), "answer": answer if isinstance(answer, str) else ""}


def _with_question(rows: Iterable[dict[str, str]]) -> Iterator[dict[str, str]]:
    """An item without a question (a sentence to be completed) is compared by its answer."""
    for row in rows:
        yield row if row["prompt"].strip() else {"prompt": row["answer"], "answer": ""}
