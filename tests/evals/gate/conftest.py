"""Evaluations made in memory or on disk, for the tests of the gate, the audit and the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data_contracts.digests import text_digest, value_digest
from data_contracts.manifests import Category, EvalReport, SuiteResult, file_ref, write_manifest
from evals.items import Evaluation, SuiteItems, write_items

MakeSuite = Callable[..., SuiteItems]
MakeEvaluation = Callable[..., Evaluation]
StoreEvaluation = Callable[[Evaluation, Path], Path]


def _suite(
    name: str,
    score: Sequence[float] | np.ndarray,
    *,
    category: Category = "skill",
    sealed: bool = False,
    higher: bool | None = None,
    logprob: Sequence[float] | np.ndarray | None = None,
    cluster: Sequence[str | None] | None = None,
    gold: Sequence[str] | None = None,
    prediction: Sequence[str] | None = None,
    weight: Sequence[float] | None = None,
    suite_sha256: str | None = None,
) -> SuiteItems:
    scores = np.asarray(score, dtype=np.float64)
    n = len(scores)
    golds = tuple(gold) if gold is not None else tuple(f"answer {index}" for index in range(n))
    said = tuple(prediction) if prediction is not None else tuple(g if s >= 0.5 else f"not {g}" for g, s in zip(golds, scores, strict=True))
    likely = np.asarray(logprob, dtype=np.float64) if logprob is not None else np.full(n, np.nan)
    result = SuiteResult(
        name=name,
        category=category,
        metric="bits_per_byte" if category == "drift" else "acc",
        higher_is_better=(category != "drift") if higher is None else higher,
        sealed=sealed,
        n=n,
        score=float(scores.mean()) if n and np.isfinite(scores).all() else 0.0,
        mean_gold_logprob=float(likely.mean()) if n and np.isfinite(likely).all() else None,
        suite_sha256=suite_sha256 or text_digest(name),
        seconds=1.0,
    )
    return SuiteItems(
        result=result,
        doc_hash=tuple(text_digest(f"{name}/{index}") for index in range(n)),
        prompt_hash=tuple(text_digest(f"prompt {name}/{index}") for index in range(n)),
        score=scores,
        gold_logprob=likely,
        weight=np.asarray(weight if weight is not None else np.ones(n), dtype=np.float64),
        cluster=tuple(cluster) if cluster is not None else (None,) * n,
        prompt=tuple(f"Question {index} of {name}: what is <b>{index}</b> & {index}?" for index in range(n)),
        gold=golds,
        prediction=said,
    )


def _evaluation(model: str, *suites: SuiteItems, settings: dict[str, object] | None = None) -> Evaluation:
    chosen = settings or {"backend": "hf", "dtype": "float32"}
    report = EvalReport(
        model_sha256=text_digest(model),
        settings=chosen,
        settings_sha256=value_digest(chosen),
        suites=tuple(suite.result for suite in suites),
    )
    return Evaluation(report=report, suites={suite.name: suite for suite in suites})


def _store(evaluation: Evaluation, folder: Path) -> Path:
    files = {}
    for name, suite in evaluation.suites.items():
        path = folder / "items" / f"{name}.parquet"
        columns = ("doc_hash", "prompt_hash", "score", "gold_logprob", "weight", "cluster", "prompt", "gold", "prediction")
        write_items(path, pd.DataFrame({column: list(getattr(suite, column)) for column in columns}))
        files[f"items/{name}"] = file_ref(folder, path)
    write_manifest(folder, evaluation.report.model_copy(update={"files": files}))
    return folder


@pytest.fixture(scope="session")
def make_suite() -> MakeSuite:
    return _suite


@pytest.fixture(scope="session")
def make_evaluation() -> MakeEvaluation:
    return _evaluation


@pytest.fixture(scope="session")
def store_evaluation() -> StoreEvaluation:
    return _store


@pytest.fixture(scope="session")
def flip() -> Callable[..., np.ndarray]:
    """Scores with the first `lost` right answers made wrong and the last `won` wrong answers made right."""

    def change(score: np.ndarray, lost: int = 0, won: int = 0) -> np.ndarray:
        changed = score.copy()
        changed[np.flatnonzero(score == 1)[:lost]] = 0
        if won:
            changed[np.flatnonzero(score == 0)[-won:]] = 1
        return changed

    return change
