"""Suites of every kind of item for the tiny model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evals.config import SuiteConfig

Write = Callable[..., Path]
Rows = list[dict[str, Any]]


@pytest.fixture
def suites(write_rows: Write, choice_rows: Rows, answer_rows: Rows, text_rows: Rows, chat_rows: Rows) -> list[SuiteConfig]:
    return [
        SuiteConfig(name="colours", source=str(write_rows("colours.jsonl", choice_rows))),
        SuiteConfig(name="sums", source=str(write_rows("sums.jsonl", answer_rows)), max_new_tokens=4),
        SuiteConfig(name="text", source=str(write_rows("text.jsonl", text_rows)), category="drift"),
        SuiteConfig(name="even", source=str(write_rows("even.jsonl", chat_rows)), chat=True, choices=("no", "yes")),
        SuiteConfig(name="free", source=str(write_rows("free.jsonl", chat_rows)), chat=True, max_new_tokens=4),
    ]
