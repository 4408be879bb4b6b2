"""Suites and evaluations made in memory, and stored by the functions that store real ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from data_contracts.digests import text_digest, value_digest
from data_contracts.manifests import Category, EvalReport, SuiteResult, file_ref, write_manifest
from evals.items import COLUMNS, Evaluation, SuiteItems, write_items, write_pool


def made_suite(
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
    margin: float | None = None,
    available: int | None = None,
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
        margin=margin,
        available=available,
        score=float(scores.mean()) if n and np.isfinite(scores).all() else 0.0,
        mean_gold_logprob=float(likely.mean()) if n and np.isfinite(likely).all() else None,  # as in reports that are replayed
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


def made_evaluation(model: str, *suites: SuiteItems, settings: dict[str, object] | None = None) -> Evaluation:
    chosen = settings or {"backend": "hf", "dtype": "float32"}
    report = EvalReport(
        model_sha256=text_digest(model),
        settings=chosen,
        settings_sha256=value_digest(chosen),
        suites=tuple(suite.result for suite in suites),
    )
    return Evaluation(report=report, suites={suite.name: suite for suite in suites})


def stored(evaluation: Evaluation, folder: Path) -> Path:
    files = {}
    for name, suite in evaluation.suites.items():
        path = folder / "items" / f"{name}.parquet"
        absent = [None] * len(suite.doc_hash)
        write_items(path, pd.DataFrame({column: list(getattr(suite, column)) or absent for column in COLUMNS}))
        files[f"items/{name}"] = file_ref(folder, path)
        if suite.pool is not None:
            write_pool(folder / "draws" / f"{name}.parquet", suite.pool)
            files[f"draws/{name}"] = file_ref(folder, folder / "draws" / f"{name}.parquet")
    write_manifest(folder, evaluation.report.model_copy(update={"files": files}))
    return folder
