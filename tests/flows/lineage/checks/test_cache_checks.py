"""Cached item scores are compared with the reports of the same model, whichever suite they stand in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from data_contracts.digests import file_digest
from flows.lineage import Lineage, find_version
from flows.lineage.checks.cache_checks import check_caches
from flows.lineage.registry.replaying import stored_reports


def found(lineage: Lineage) -> list[tuple[Path, str]]:
    return [(Path(each.where), each.problem) for each in check_caches(lineage, stored_reports(lineage.state_dir))]


@pytest.fixture
def cached(grown: Lineage) -> Path:
    """A cache file of the champion's model."""
    folder = grown.state_dir / "items" / find_version(grown, 3).model_sha256[:16]
    return sorted(folder.glob("*.parquet"))[0]


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> int:
    """The number of rows before; the digest file is written anew, as a forger would."""
    table = parquet.read_table(path)
    parquet.write_table(change(table), path)
    path.with_suffix(".sha256").write_text(file_digest(path), encoding="utf-8")
    return int(table.num_rows)


def flip_first(table: pa.Table) -> pa.Table:
    scores = table.column("score").to_pylist()
    scores[0] = 1.0 - scores[0]
    return table.set_column(table.column_names.index("score"), "score", pa.array(scores))


def test_caches_that_nobody_touched_have_no_finding(grown: Lineage, cached: Path) -> None:
    assert cached.is_file()
    assert found(grown) == []


def test_one_edited_score_is_counted(grown: Lineage, cached: Path) -> None:
    rows = rewrite(cached, flip_first)
    [(place, problem)] = found(grown)
    assert place == cached
    assert problem.startswith(f"1 of {rows} cached scores differ from all stored reports of this model")


def test_a_file_edited_without_its_digest_is_named(grown: Lineage, cached: Path) -> None:
    cached.write_bytes(cached.read_bytes() + b"x")
    assert found(grown) == [(cached, "cached scores do not match their digest file (delete the file: the items are evaluated again)")]


def test_a_file_that_is_no_table_is_named(grown: Lineage, cached: Path) -> None:
    cached.write_bytes(b"no table")
    cached.with_suffix(".sha256").write_text(file_digest(cached), encoding="utf-8")
    [(place, problem)] = found(grown)
    assert (place, "cannot be read" in problem) == (cached, True)


def test_an_item_that_no_report_has_is_no_finding(grown: Lineage, cached: Path) -> None:
    def rename(table: pa.Table) -> pa.Table:
        docs = ["new item", *table.column("doc_hash").to_pylist()[1:]]
        return flip_first(table).set_column(table.column_names.index("doc_hash"), "doc_hash", pa.array(docs))

    rewrite(cached, rename)
    assert found(grown) == []
