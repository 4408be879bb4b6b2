"""Measure a checkpoint on suites: a model folder goes in, an EvalReport with per-item Parquet files comes out.

lm-eval asks and scores (harness_model, harness_tasks); this file decides what is still unknown, and writes the report. Items that the
cache holds are not computed again, and where it holds them all neither torch nor lm-eval is imported.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from data_contracts.digests import model_digest, model_files, value_digest
from data_contracts.errors import EvaluationError
from data_contracts.manifests import EvalReport, SuiteResult, file_ref, write_manifest
from evals.config import EvaluationConfig, SuiteConfig
from evals.item_cache import ItemCache
from evals.items import COLUMNS, write_items
from evals.suite_items import Item, load_items, prompting_digest, suite_digest
from evals.suites import resolve_suites

if TYPE_CHECKING:
    from evals.harness_session import Session

Progress = Callable[[int, int, str], None]
METRIC_OF_KIND = {"choice": "acc", "answer": "exact_match", "text": "bits_per_byte"}


@dataclass(frozen=True)
class SuitePlan:
    """One suite, its items, and which of them the cache already has."""

    suite: SuiteConfig
    items: list[Item]
    cache: ItemCache
    known: pd.DataFrame

    @property
    def missing(self) -> list[Item]:
        have = set(self.known["doc_hash"])
        return [item for item in self.items if item.doc_hash not in have]


def evaluate_checkpoint(
    model_dir: Path,
    suites: Sequence[SuiteConfig],
    out_dir: Path,
    *,
    config: EvaluationConfig,
    cache_dir: Path,
    model_sha256: str | None = None,
    progress: Progress | None = None,
) -> EvalReport:
    """Evaluate the model folder on every suite and leave the report in `out_dir` (manifest last).

    `progress(done, total, suite)` counts items over all suites. Raises EvaluationError for a suite that is missing, empty or malformed,
    for a score that is not finite, and CheckpointError for a folder that is not a model.
    """
    digest = model_sha256 or model_digest(model_files(model_dir))
    settings = harness_settings(config)
    plans = [_plan(suite, digest, settings, cache_dir) for suite in resolve_suites(suites, Path.cwd())]
    if not plans:
        raise EvaluationError(
            str(model_dir), "there is no suite to evaluate", "name suites in evaluation.suites, or give a drop with held-out items"
        )
    counter = _Counter(progress, total=sum(len(plan.items) for plan in plans))
    session: Session | None = None
    results = []
    for plan in plans:
        if plan.missing:
            session = session or _open_session(model_dir, config)
        started = time.perf_counter()
        counter.start(plan.suite.name, len(plan.items) - len(plan.missing))
        if plan.missing and session:
            plan.cache.add(session.score(plan.suite, plan.missing, counter.advance))
        results.append(_write_suite(plan, out_dir, time.perf_counter() - started))
    files = {f"items/{result.name}": file_ref(out_dir, _items_path(out_dir, result.name)) for result in results}
    report = EvalReport(model_sha256=digest, settings=settings, settings_sha256=value_digest(settings), suites=tuple(results), files=files)
    write_manifest(out_dir, report)
    return report


def harness_settings(config: EvaluationConfig) -> dict[str, Any]:
    """What changes scores but belongs to no suite. Scores under different settings are never compared, and never share a cache."""
    device = resolve_device(config.device)
    dtype = config.dtype if config.dtype != "auto" else ("float32" if device == "cpu" else "bfloat16")
    return {
        "backend": config.backend,
        "device": device.split(":")[0],
        "dtype": dtype,
        "max_length": config.max_length,
        "seed": config.seed,
        "versions": {name: version(name) for name in ("lm_eval", "torch", "transformers")},
    }


def resolve_device(device: str) -> str:
    """`auto` is cuda where a GPU can be used. The drivers are asked by torch only where their device files exist."""
    if device != "auto":
        return device
    if not os.path.exists("/dev/nvidiactl"):
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _plan(suite: SuiteConfig, digest: str, settings: dict[str, Any], cache_dir: Path) -> SuitePlan:
    items = load_items(suite)
    cache = ItemCache.open(cache_dir, model=digest, prompting=prompting_digest(suite), settings=value_digest(settings))
    known = cache.read()
    return SuitePlan(suite, items, cache, known[known["doc_hash"].isin([item.doc_hash for item in items])])


def _open_session(model_dir: Path, config: EvaluationConfig) -> Session:
    from evals.harness_session import Session

    return Session(model_dir, config, device=resolve_device(config.device), dtype=harness_settings(config)["dtype"])


def _items_path(out_dir: Path, name: str) -> Path:
    return out_dir / "items" / f"{name}.parquet"


def _write_suite(plan: SuitePlan, out_dir: Path, seconds: float) -> SuiteResult:
    """Write the suite's items in the suite's order and sum them up."""
    order = [item.doc_hash for item in plan.items]
    table = plan.cache.read().set_index("doc_hash", drop=False)
    lost = [doc_hash for doc_hash in order if doc_hash not in table.index]
    if lost:
        raise EvaluationError(plan.suite.name, f"{len(lost)} of {len(order)} scored items are not in the cache", "evaluate again")
    rows = table.loc[order, list(COLUMNS)].reset_index(drop=True)
    write_items(_items_path(out_dir, plan.suite.name), rows)
    kind = plan.items[0].kind
    metric = plan.suite.metric if plan.suite.metric != "auto" else METRIC_OF_KIND[kind]
    better = plan.suite.higher_is_better
    return SuiteResult(
        name=plan.suite.name,
        category=plan.suite.category,
        metric=metric,
        higher_is_better=metric != "bits_per_byte" if better is None else better,
        sealed=plan.suite.sealed,
        n=len(rows),
        score=mean_score(rows),
        mean_gold_logprob=None if rows["gold_logprob"].isna().any() else float(rows["gold_logprob"].mean()),
        suite_sha256=suite_digest(plan.suite, plan.items),
        seconds=seconds,
    )


def mean_score(rows: pd.DataFrame) -> float:
    """Mean of the scores; weighted by bytes for drift suites, whose aggregate is over the whole text."""
    return float(np.average(rows["score"].to_numpy(float), weights=rows["weight"].to_numpy(float)))


class _Counter:
    """Items done, over all suites."""

    def __init__(self, report: Progress | None, total: int) -> None:
        self._report, self._total, self._done, self._suite = report, total, 0.0, ""

    def start(self, suite: str, cached: int) -> None:
        self._suite = suite
        self.advance(cached)

    def advance(self, items: float) -> None:
        self._done += items
        if self._report:
            self._report(min(round(self._done), self._total), self._total, self._suite)
