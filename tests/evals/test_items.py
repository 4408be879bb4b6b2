"""The per-item store: what was written is read back, older stores are read too, and a store that disagrees with its report is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data_contracts.errors import EvaluationError
from data_contracts.manifests import SuiteResult
from evals.items import COLUMNS, load_evaluation, read_items, write_items


def _result(n: int) -> SuiteResult:
    return SuiteResult(name="s", category="skill", metric="acc", higher_is_better=True, n=n, score=0.5, suite_sha256="0", seconds=0.0)


def _table() -> pd.DataFrame:
    rows = [
        ("d0", "p0", 1.0, -0.5, 1.0, "passage", "q0", "yes", "yes", "because", 3, "YES", "yes", [-0.5, -2.0], 1.5, 0.8175),
        ("d1", "p1", 0.0, None, 1.0, None, "q1", None, "no", "", 0, None, None, None, None, None),
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def test_what_was_written_is_read_back_and_nulls_are_what_they_mean(tmp_path: Path) -> None:
    write_items(tmp_path / "new" / "s.parquet", _table())
    items = read_items(tmp_path / "new" / "s.parquet", _result(2))
    assert (items.doc_hash, items.prompt_hash, items.gold) == (("d0", "d1"), ("p0", "p1"), ("yes", ""))
    assert items.score.tolist() == [1.0, 0.0]
    assert items.gold_logprob[0] == -0.5
    assert np.isnan(items.gold_logprob[1])
    assert items.cluster == ("passage", None)
    assert (items.reasoning, items.cut, items.choice_logprobs) == (("because", ""), (3, 0), ((-0.5, -2.0), None))
    assert (items.margin, items.gold_probability) == ((1.5, None), (0.8175, None))
    assert (items.golds, items.answers) == (("YES", ""), ("yes", ""))


def test_equal_items_give_equal_bytes(tmp_path: Path) -> None:
    for name in "ab":
        write_items(tmp_path / name, _table())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_store_from_before_the_last_columns_has_them_empty(tmp_path: Path) -> None:
    last = ["reasoning", "cut", "compared_gold", "compared_answer", "choice_logprobs", "margin", "gold_probability"]
    _table().drop(columns=last).to_parquet(tmp_path / "old.parquet", index=False)
    items = read_items(tmp_path / "old.parquet", _result(2))
    assert (items.reasoning, items.cut, items.choice_logprobs) == (("", ""), (0, 0), (None, None))
    assert (items.margin, items.gold_probability) == ((None, None), (None, None))
    assert (items.golds, items.answers) == (items.gold, items.prediction) == (("yes", ""), ("yes", "no"))


def test_a_store_that_is_not_what_the_report_says_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    write_items(path, _table())
    with pytest.raises(EvaluationError, match="has 2 items where the report says 3"):
        read_items(path, _result(3))
    _table().drop(columns=["score"]).to_parquet(path, index=False)
    with pytest.raises(EvaluationError, match=r"lacks the columns \['score'\]"):
        read_items(path, _result(2))
    path.write_bytes(b"PAR1")
    with pytest.raises(EvaluationError, match="cannot be read as Parquet"):
        read_items(path, _result(2))


def test_an_evaluation_is_its_report_and_every_suite(tmp_path: Path, make_suite, make_evaluation, store_evaluation) -> None:
    made = make_evaluation("m", make_suite("a", [1.0, 0.0]), make_suite("b", [0.5], category="general"))
    read = load_evaluation(store_evaluation(made, tmp_path / "e"))
    assert read.model_sha256 == made.model_sha256
    assert {name: (items.category, items.score.tolist()) for name, items in read.suites.items()} == {
        "a": ("skill", [1.0, 0.0]),
        "b": ("general", [0.5]),
    }
