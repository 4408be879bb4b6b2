"""A version's scores may come from a cache: they must be the ones that the version was registered with."""

from __future__ import annotations

import numpy as np

from data_contracts.errors import EvaluationError
from data_contracts.manifests import EvalReport
from evals.items import SuiteItems, load_evaluation
from flows.lineage import VersionRef
from flows.workspace.stages import Stage


def require_registered_scores(version: VersionRef, stage: Stage[EvalReport]) -> Stage[EvalReport]:
    """Give the stage back. Raises EvaluationError where an item that both know has another score under the same settings."""
    if version.evaluation is None:
        return stage
    then, now = load_evaluation(version.evaluation), load_evaluation(stage.folder)
    if then.report.settings_sha256 != now.report.settings_sha256:
        return stage
    for name in then.suites.keys() & now.suites.keys():
        mine, registered = now.suites[name], then.suites[name]
        if mine.result.suite_sha256 != registered.result.suite_sha256:
            continue  # other items, or another release's way of scoring them
        if changed := _changed(registered, mine):
            what = f"{changed} items of {name} have other scores than version {version.version} was registered with"
            way_out = "the cached scores were changed: delete state_dir/items and this folder, then run the round again"
            raise EvaluationError(str(stage.folder), what, way_out)
    return stage


def _changed(then: SuiteItems, now: SuiteItems) -> int:
    """Items with the same text and prompt, and another score."""
    known = {pair: number for number, pair in enumerate(zip(then.doc_hash, then.prompt_hash, strict=True))}
    pairs = ((known.get(pair), number) for number, pair in enumerate(zip(now.doc_hash, now.prompt_hash, strict=True)))
    both = [(before, after) for before, after in pairs if before is not None]
    return sum(1 for before, after in both if not np.isclose(then.score[before], now.score[after], rtol=0.0, atol=1e-9, equal_nan=True))
