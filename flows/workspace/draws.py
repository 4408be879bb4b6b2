"""Suites whose items are drawn by margin: the model that their losses are counted from is read on all of their items, once.

The base draws general and safety suites, the version that learned a skill draws the skill's. The reading is a stage by content like any
other, and its items are in the cache, so that every later round has it at no cost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from data_contracts.manifests import EvalReport, read_manifest
from evals.config import SuiteConfig
from evals.designs import MarginDraw
from evals.items import load_evaluation, read_pool
from evals.suites.resolve import resolve_suites
from flows.lineage import VersionRef
from flows.lineage.audit_rows import own_suite
from flows.workspace.stages import Stage


def drawn_by(suites: Sequence[SuiteConfig], evaluate: Callable[[Sequence[SuiteConfig]], Stage[EvalReport]]) -> list[SuiteConfig]:
    """The suites; those that draw by margin name the evaluation, by `evaluate`, of the drawing model on all of their items."""
    if not any(suite.draws or not suite.is_file for suite in suites):
        return list(suites)
    resolved = resolve_suites(suites, Path.cwd())  # a set may have suites that draw
    whole = [suite.model_copy(update={"draw": "even", "items": None}) for suite in resolved if suite.draws]
    if not whole:
        return list(suites)
    pool = evaluate(whole).folder
    return [suite.model_copy(update={"pool": str(pool)}) if suite.draws else suite for suite in resolved]


def drawn_evenly(suites: Sequence[SuiteConfig]) -> list[SuiteConfig]:
    """The suites without draws by margin, for evaluations that no round compares."""
    return [suite.model_copy(update={"draw": "even"}) for suite in resolve_suites(suites, Path.cwd())]


def drawing_margins(chain: Sequence[VersionRef], name: str) -> MarginDraw | None:
    """The margins that will draw a suite's items: those of its learner, or of the base; None where none of its items has been read by it.

    They are in the newest report that drew the suite. Before that, as in the round after a skill was learned, they are those of the items
    that the drawing model was read on evenly, which have the same distribution.
    """
    owner = next((at for at, each in enumerate(chain) if each.skill and (own_suite(each.skill, each.drop) or each.skill) == name), 0)
    age = len(chain) - 1 - owner
    for version in reversed(chain):
        report = read_manifest(version.evaluation, EvalReport, verify=False) if version.evaluation else None
        drawn = report.files.get(f"draws/{name}") if report else None
        if version.evaluation and drawn:
            return MarginDraw(tuple(read_pool(version.evaluation / drawn.path).margin.tolist()), age)
    first = chain[owner].evaluation if chain else None
    read = load_evaluation(first, [name]).suites.get(name) if first else None
    margins = tuple(abs(each) for each in read.margin if each is not None) if read else ()
    return MarginDraw(margins, age) if margins else None
