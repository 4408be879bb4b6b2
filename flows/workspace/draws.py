"""Suites whose items are drawn by margin: the model that their losses are counted from is read on all of their items, once.

The base draws general and safety suites, the version that learned a skill draws the skill's. The reading is a stage by content like any
other, and its items are in the cache, so that every later round has it at no cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evals.config import SuiteConfig
from evals.suites.resolve import resolve_suites
from flows.workspace.workspace import Workspace, evaluate_model


def drawn_by(workspace: Workspace, model: Path, model_sha256: str, suites: Sequence[SuiteConfig], label: str) -> list[SuiteConfig]:
    """The suites; those that draw by margin name the evaluation of this model on all of their items."""
    if not any(suite.draws or not suite.is_file for suite in suites):
        return list(suites)
    resolved = resolve_suites(suites, Path.cwd())  # a set may have suites that draw
    whole = [suite.model_copy(update={"draw": "even", "items": None}) for suite in resolved if suite.draws]
    if not whole:
        return list(suites)
    pool = evaluate_model(workspace, model, model_sha256, whole, f"{label}, all items").folder
    return [suite.model_copy(update={"pool": str(pool)}) if suite.draws else suite for suite in resolved]


def drawn_evenly(suites: Sequence[SuiteConfig]) -> list[SuiteConfig]:
    """The suites without draws by margin, for evaluations that no round compares."""
    return [suite.model_copy(update={"draw": "even"}) for suite in resolve_suites(suites, Path.cwd())]
