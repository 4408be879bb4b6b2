"""Measure a checkpoint on suites: a model folder goes in, an EvalReport with per-item Parquet files comes out.

lm-eval prompts the model and scores (session.py); this file decides which items are still unknown (plan.py) and writes the report. Items
that the cache holds are not computed again, and where it holds them all neither torch nor lm-eval is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd

from data_contracts.digests import model_digest, model_files, value_digest
from data_contracts.errors import ConfigError, EvaluationError
from data_contracts.manifests import EvalReport, SuiteResult, file_ref, write_manifest
from evals.config import EvaluationConfig, ModelUse, SuiteConfig
from evals.harness.fill import AS_IT_IS, Counter, Progress, fill_cache, harness_settings
from evals.harness.plan import Planner, SuitePlan
from evals.harness.reproduction import Taught, find_doubt, taught_suite
from evals.items import COLUMNS, write_items, write_pool
from evals.suites.resolve import resolve_suites


def evaluate_checkpoint(
    model_dir: Path,
    suites: Sequence[SuiteConfig],
    out_dir: Path,
    *,
    config: EvaluationConfig,
    cache_dir: Path,
    use: ModelUse = AS_IT_IS,
    taught: Taught | None = None,
    model_sha256: str | None = None,
    verify: Callable[[], object] | None = None,
    progress: Progress | None = None,
) -> EvalReport:
    """Evaluate the model folder on every suite and leave the report in `out_dir` (manifest last).

    `use` says how the model is loaded and prompted; `taught` names rows that it was trained on, a few of which it is tested on.
    `verify` is called before the weights are loaded, and not where every score is known: it raises where they are not `model_sha256`.
    `progress(done, total, suite)` counts items over all suites. Raises EvaluationError for a suite that is missing, empty or malformed and
    for a score that is not finite, CheckpointError for a folder that is not a model, ConfigError for a backend that is not there.
    """
    if config.backend == "vllm" and find_spec("vllm") is None:
        raise ConfigError(
            "evaluation.backend", "is vllm, and vLLM is not installed", "install vllm in this environment, or use hf or accelerate"
        )
    digest = model_sha256 or model_digest(model_files(model_dir))
    settings = harness_settings(config, use)
    planner = Planner(digest, value_digest(settings), config, cache_dir)
    resolved = resolve_suites(suites, Path.cwd())
    if not resolved:
        raise EvaluationError(str(model_dir), "there is no suite to evaluate", "name suites in evaluation.suites, or give held-out items")
    asked_back = taught_suite(taught, resolved) if taught else None
    resolved += [asked_back] if asked_back else []
    plans = [planner.plan(suite) for suite in resolved]
    counter = Counter(progress, total=sum(len(plan.facts.doc_hashes) for plan in plans))
    computes = any(plan.missing for plan in plans)
    if computes and verify is not None:
        verify()
    if computes and config.backend == "accelerate":
        from evals.harness.workers import fill_with_workers

        seconds = fill_with_workers(model_dir, resolved, config, use, cache_dir, digest, counter.reach)
    else:
        seconds = fill_cache(model_dir, plans, config, use, counter)
    results = [write_suite(plan, out_dir, seconds.get(plan.suite.name, 0.0)) for plan in plans]
    counter.finish()
    files = {f"items/{result.name}": file_ref(out_dir, items_path(out_dir, result.name)) for result in results}
    files |= {f"draws/{result.name}": file_ref(out_dir, pool_path(out_dir, result.name)) for result in results if result.drawn_by}
    if taught and asked_back:
        results = doubt_skill(taught.skill, plans, results)
        files["taught"] = files.pop(f"items/{asked_back.name}")
    report = EvalReport(model_sha256=digest, settings=settings, settings_sha256=value_digest(settings), suites=tuple(results), files=files)
    write_manifest(out_dir, report)
    return report


def doubt_skill(skill: str, plans: Sequence[SuitePlan], results: Sequence[SuiteResult]) -> list[SuiteResult]:
    """The results without the training rows; the skill's own says how many of them were reproduced, and whether that casts doubt on it."""
    *own, back = results
    of_rows = plans[-1]
    table = of_rows.cache.read()
    scores: dict[str, float] = dict(zip(table["doc_hash"], table["score"], strict=True))
    reproduced = [scores[doc_hash] for doc_hash in of_rows.facts.doc_hashes]
    choices = [len(item.choices) for plan in plans if plan.suite.name == skill for item in plan.items if item.choices]
    return [
        result.model_copy(update={"reproduced": back.score, "doubt": find_doubt(result.score, choices, reproduced)})
        if result.name == skill
        else result
        for result in own
    ]


def items_path(out_dir: Path, name: str) -> Path:
    return out_dir / "items" / f"{name}.parquet"


def pool_path(out_dir: Path, name: str) -> Path:
    return out_dir / "draws" / f"{name}.parquet"


def write_suite(plan: SuitePlan, out_dir: Path, seconds: float) -> SuiteResult:
    """Write the suite's items in the suite's order and sum them up."""
    table = plan.cache.read().set_index("doc_hash", drop=False)
    lost = [doc_hash for doc_hash in plan.facts.doc_hashes if doc_hash not in table.index]
    if lost:
        raise EvaluationError(plan.suite.name, f"{len(lost)} of {len(plan.facts.doc_hashes)} items are not in the cache", "evaluate again")
    rows = table.loc[list(plan.facts.doc_hashes), list(COLUMNS)].reset_index(drop=True)
    drawn = plan.facts.drawn
    if drawn:
        rows["weight"] = drawn.weights(plan.facts.doc_hashes)
        write_pool(pool_path(out_dir, plan.suite.name), drawn.pool)
    write_items(items_path(out_dir, plan.suite.name), rows)
    return SuiteResult(
        name=plan.suite.name,
        category=plan.suite.category,
        metric=plan.facts.metric,
        higher_is_better=plan.facts.higher_is_better,
        sealed=plan.suite.sealed,
        n=len(rows),
        available=plan.facts.available,
        margin=plan.suite.margin,
        score=mean_score(rows),
        suite_sha256=plan.facts.suite_sha256,
        seconds=seconds,
        cut=int((rows["cut"].fillna(0) > 0).sum()),
        set_aside=int((rows["reasoning"].fillna("") != "").sum()),
        drawn_by=drawn.by if drawn else "",
    )


def mean_score(rows: pd.DataFrame) -> float:
    """Mean of the scores; weighted by bytes for drift suites, whose aggregate is over all of the text, and by 1 / chance where drawn."""
    return float(np.average(rows["score"].to_numpy(float), weights=rows["weight"].to_numpy(float)))
