"""Evaluations made in memory or on disk, for the tests of the gate, the audit and the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data_contracts.digests import text_digest, value_digest
from data_contracts.manifests import Category, EvalReport, SuiteResult, file_ref, write_manifest
from evals.gate import GateEvidence
from evals.items import COLUMNS, Evaluation, SuiteItems, write_items

RIGHT = np.r_[np.ones(300), np.zeros(100)]
"""A suite that the champion answers at 75 %."""
UNLEARNED = np.r_[np.ones(100), np.zeros(300)]

BuildEvidence = Callable[..., GateEvidence]
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
    margin: float | None = None,
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
        absent = [None] * len(suite.doc_hash)
        write_items(path, pd.DataFrame({column: list(getattr(suite, column)) or absent for column in COLUMNS}))
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


@pytest.fixture
def evidence(make_suite, make_evaluation, flip) -> BuildEvidence:
    """Evidence for a round that adds `new`; each pair is (items lost, items won) of a suite against the champion.

    `drift` scales bits per byte, `since` says how many items an anchor knew that the champion has lost, `margins` are suites' own.
    """

    def build(
        old: tuple[int, int] = (2, 2),
        older: tuple[int, int] = (2, 2),
        piqa: tuple[int, int] = (2, 2),
        gain: int = 200,
        drift: float = 1.0,
        since: dict[str, int] | None = None,
        margins: dict[str, float] | None = None,
        **fields: object,
    ) -> GateEvidence:
        texts = np.linspace(0.8, 1.2, 60)
        wobble = np.linspace(-1, 1, 60) * 1e-3
        champion = make_evaluation(
            "champion",
            make_suite("old", RIGHT),
            make_suite("older", RIGHT),
            make_suite("new", UNLEARNED),
            make_suite("piqa", RIGHT, category="general"),
            make_suite("text", texts, category="drift"),
        )
        own = margins or {}
        candidate = make_evaluation(
            "candidate",
            make_suite("old", flip(RIGHT, *old), margin=own.get("old")),
            make_suite("older", flip(RIGHT, *older), margin=own.get("older")),
            make_suite("new", flip(UNLEARNED, won=gain)),
            make_suite("piqa", flip(RIGHT, *piqa), category="general", margin=own.get("piqa")),
            make_suite("text", texts * drift + wobble, category="drift", margin=own.get("text")),
        )
        anchor = make_evaluation(
            "anchor",
            *(make_suite(name, _better(RIGHT, (since or {}).get(name, 0))) for name in ("old", "older")),
            make_suite("piqa", _better(RIGHT, (since or {}).get("piqa", 0)), category="general"),
        )
        return replace(GateEvidence(candidate, champion, dict.fromkeys(("old", "older", "piqa"), anchor), "new"), **fields)

    return build


def _better(score: np.ndarray, more: int) -> np.ndarray:
    """The score of an anchor that knew `more` items that the champion has lost since."""
    better = score.copy()
    better[np.flatnonzero(score == 0)[:more]] = 1
    return better
