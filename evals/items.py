"""The per-item store: one Parquet file per suite, and the frozen view of it that the gate and the audit read.

Columns of a file, one row per item, in the suite's order:

    doc_hash      str    sha256 of the item's content; the key on which two checkpoints are paired
    prompt_hash   str    sha256 of the exact text the model saw
    score         float  in [0, 1] (1 = right); bits per byte for drift suites
    gold_logprob  float  nats, of the gold choice or answer (null where the suite has none)
    weight        float  bytes of the item for drift suites; 1 / chance where items were drawn by margin; 1 otherwise
    cluster       str    items that share a passage share this (null where they do not)
    prompt, gold, prediction   str   for people: the audit shows them
    reasoning     str    what was set aside of the model's answer before it was compared (empty where nothing was)
    cut           int    tokens of the context that the model's window had no room for
    compared_gold, compared_answer   str   of a generated answer: what was compared, after the suite's pattern and settings (empty where the
                         texts above are compared as they are)
    choice_logprobs   list of floats, nats, in the order of the item's choices (null where it has none)
    margin        float  of the gold choice to the best other one, in the unit in which choices are ranked (nats; with acc_norm nats per
                         character): positive where the answer is right, near 0 where little would change it (null without choices)
    gold_probability  float  of the gold choice among the item's choices (null without choices)

The last seven came later: a store without them is read as one where they are empty.

Where items were drawn from a larger pool by margin (evals.drawing), the report has one more file for the suite, `draws/<name>`: doc_hash,
margin and chance of every item of the pool, so that the draw can be made again.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyarrow import parquet

from data_contracts.errors import EvaluationError
from data_contracts.manifests import Category, EvalReport, SuiteResult, read_manifest

_TEXT = ("doc_hash", "prompt_hash", "prompt", "gold", "prediction")
_NUMBERS = ("score", "gold_logprob", "weight")
_FIRST_COLUMNS = ("doc_hash", "prompt_hash", "score", "gold_logprob", "weight", "cluster", "prompt", "gold", "prediction")
COLUMNS = (*_FIRST_COLUMNS, "reasoning", "cut", "compared_gold", "compared_answer", "choice_logprobs", "margin", "gold_probability")


@dataclass(frozen=True)
class DrawnPool:
    """The pool that a suite's items were drawn from, in the suite's order: distances to the border that drew them, and their chances."""

    doc_hash: tuple[str, ...]
    margin: NDArray[np.float64]
    chance: NDArray[np.float64]


@dataclass(frozen=True)
class SuiteItems:
    """Every item of one suite on one checkpoint. Arrays have length n and the suite's order."""

    result: SuiteResult
    doc_hash: tuple[str, ...]
    prompt_hash: tuple[str, ...]
    score: NDArray[np.float64]
    gold_logprob: NDArray[np.float64]
    weight: NDArray[np.float64]
    cluster: tuple[str | None, ...]
    prompt: tuple[str, ...]
    gold: tuple[str, ...]
    prediction: tuple[str, ...]
    reasoning: tuple[str, ...] = ()
    cut: tuple[int, ...] = ()
    compared_gold: tuple[str, ...] = ()
    compared_answer: tuple[str, ...] = ()
    choice_logprobs: tuple[tuple[float, ...] | None, ...] = ()
    margin: tuple[float | None, ...] = ()
    gold_probability: tuple[float | None, ...] = ()
    pool: DrawnPool | None = None

    @property
    def golds(self) -> tuple[str, ...]:
        """The right answers as scores compare them: golds that differ in their reasoning may all be one answer."""
        return self.compared_gold if any(self.compared_gold) else self.gold

    @property
    def answers(self) -> tuple[str, ...]:
        """The model's answers as scores compare them."""
        return self.compared_answer if any(self.compared_gold) else self.prediction

    @property
    def drawn_from(self) -> int | None:
        """Items of the pool that these were drawn from by margin; None: each had the same chance, or all of them were read."""
        return None if self.pool is None or len(self.pool.doc_hash) == len(self.doc_hash) else len(self.pool.doc_hash)

    @property
    def name(self) -> str:
        return self.result.name

    @property
    def category(self) -> Category:
        return self.result.category


@dataclass(frozen=True)
class Evaluation:
    """An EvalReport with its items in memory."""

    report: EvalReport
    suites: Mapping[str, SuiteItems]

    @property
    def model_sha256(self) -> str:
        return self.report.model_sha256


def write_items(path: Path, items: pd.DataFrame) -> None:
    """Write one suite's items. The same items give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    items.reindex(columns=list(COLUMNS)).to_parquet(path, index=False, compression="zstd")


def write_pool(path: Path, pool: DrawnPool) -> None:
    """Write the pool that a suite's items were drawn from. The same pool gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {"doc_hash": list(pool.doc_hash), "margin": pool.margin, "chance": pool.chance}
    pd.DataFrame(columns).to_parquet(path, index=False, compression="zstd")


def read_pool(path: Path) -> DrawnPool:
    """Raises EvaluationError where the file is corrupt."""
    try:
        table = parquet.ParquetFile(path).read(["doc_hash", "margin", "chance"], use_threads=False)
    except Exception as error:  # pyarrow raises many types for a corrupt file
        raise EvaluationError(str(path), f"cannot be read as Parquet: {error}", "evaluate the checkpoint again") from error
    margin, chance = (np.array(table.column(name).to_pylist(), dtype=np.float64) for name in ("margin", "chance"))
    return DrawnPool(tuple(table.column("doc_hash").to_pylist()), margin, chance)


def read_items(path: Path, result: SuiteResult, pool: DrawnPool | None = None) -> SuiteItems:
    """Raises EvaluationError where the file is corrupt or its columns or row count are not what the report says."""
    try:
        # Not through pandas, which takes five times as long: an audit reads thousands of small files.
        table = parquet.ParquetFile(path).read(use_threads=False)
    except Exception as error:  # pyarrow raises many types for a corrupt file
        raise EvaluationError(str(path), f"cannot be read as Parquet: {error}", "evaluate the checkpoint again") from error
    missing = [column for column in _FIRST_COLUMNS if column not in table.column_names]
    if missing or len(table) != result.n:
        what = f"lacks the columns {missing}" if missing else f"has {len(table)} items where the report says {result.n}"
        raise EvaluationError(str(path), what, "evaluate the checkpoint again")
    column: dict[str, list[Any]] = {name: _column(table, name) for name in COLUMNS}
    text = {name: tuple("" if _empty(value) else str(value) for value in column[name]) for name in _TEXT}
    number = {name: np.array([np.nan if value is None else value for value in column[name]], dtype=np.float64) for name in _NUMBERS}
    return SuiteItems(
        result=result,
        doc_hash=text["doc_hash"],
        prompt_hash=text["prompt_hash"],
        score=number["score"],
        gold_logprob=number["gold_logprob"],
        weight=number["weight"],
        cluster=tuple(None if _empty(value) else str(value) for value in column["cluster"]),
        prompt=text["prompt"],
        gold=text["gold"],
        prediction=text["prediction"],
        reasoning=tuple(str(value or "") for value in column["reasoning"]),
        cut=tuple(int(value or 0) for value in column["cut"]),
        compared_gold=tuple("" if _empty(value) else str(value) for value in column["compared_gold"]),
        compared_answer=tuple("" if _empty(value) else str(value) for value in column["compared_answer"]),
        choice_logprobs=tuple(None if value is None else tuple(value) for value in column["choice_logprobs"]),
        margin=tuple(None if _empty(value) else float(value) for value in column["margin"]),
        gold_probability=tuple(None if _empty(value) else float(value) for value in column["gold_probability"]),
        pool=pool,
    )


def _column(table: Any, name: str) -> list[Any]:
    """A column's values, nulls where an older store lacks it."""
    values: list[Any] = table.column(name).to_pylist() if name in table.column_names else [None] * len(table)
    return values


def _empty(value: Any) -> bool:
    """A null, or the NaN that pandas writes for one in a column of numbers."""
    return value is None or value != value


def load_evaluation(folder: Path, names: Container[str] | None = None) -> Evaluation:
    """Read a report's folder: its manifest, every digest verified, and every suite's items, or those of the suites that are named."""
    report = read_manifest(folder, EvalReport)
    suites = {}
    for result in report.suites:
        if names is not None and result.name not in names:
            continue
        drawn = report.files.get(f"draws/{result.name}")
        pool = read_pool(folder / drawn.path) if drawn else None
        suites[result.name] = read_items(folder / report.files[f"items/{result.name}"].path, result, pool)
    return Evaluation(report=report, suites=suites)
