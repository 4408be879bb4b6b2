"""The digest of the scoring code changes with what the interpreter reads and with nothing else."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from evals.config import SuiteConfig
from evals.suites import scoring_code
from evals.suites.items import load_items, prompting_digest, suite_digest
from evals.suites.scoring_code import source_meaning

Write = Callable[..., Path]


def _suite(path: Path, **fields: Any) -> SuiteConfig:
    return SuiteConfig(name="s", source=str(path), **fields)


OWN_KEYS = {"prompt": "{{ question }}"}


def _parity(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"question": f"is {n} even", "choices": ["yes", "no"], "answer": "no" if n % 2 else "yes", **fields} for n in range(count)]


def test_a_newer_scorer_never_meets_an_old_score(write_rows: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = _suite(write_rows("s.jsonl", _parity(3)), **OWN_KEYS)
    items = load_items(suite)
    before = prompting_digest(suite), suite_digest(suite, items)
    monkeypatch.setattr("evals.suites.items.scoring_digest", lambda: "a newer scorer")
    after = prompting_digest(suite), suite_digest(suite, items)
    assert before[0] != after[0], "the item cache is keyed by it"
    assert before[1] != after[1], "the gate compares it"


DECIDING = (
    "data_contracts.rendering.answers", "data_contracts.rendering.chat", "data_contracts.rendering.encoding",
    "data_contracts.rendering.facts", "data_contracts.rendering.renderer", "data_contracts.rendering.template",
    "data_contracts.model.lengths", "data_contracts.model.window",
    "evals.harness.prompts", "evals.harness.rows", "evals.harness.session", "evals.harness.tasks",
    "evals.scoring.generation", "evals.scoring.model", "evals.scoring.scorer", "evals.scoring.tokens",
    "evals.suites.gold", "evals.suites.items", "evals.suites.templates",
)  # fmt: skip


@pytest.mark.parametrize("name", DECIDING)
def test_every_module_that_makes_prompts_or_scores_is_in_the_digest(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = find_spec(name)
    assert found is not None
    source = Path(str(found.origin)).read_text(encoding="utf-8")
    seen: list[str] = []
    for changed in (source, source + "changed = True\n"):
        monkeypatch.setattr(scoring_code, "source_meaning", lambda text, changed=changed: changed if text == source else text)
        seen.append(scoring_code.scoring_digest.__wrapped__())
    assert seen[0] != seen[1]


def test_words_about_the_code_are_not_the_code() -> None:
    code = 'def f(x):\n    """Says one thing."""\n    return x + 1  # so\n'
    assert source_meaning(code) == source_meaning('"""A module."""\n\n\ndef f(x):\n    """Says another."""\n    return x + 1\n')
    assert source_meaning(code) != source_meaning(code.replace("+ 1", "+ 2"))
