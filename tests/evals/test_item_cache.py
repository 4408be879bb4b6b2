"""Items that were scored are found again under the same model, prompting and settings; a damaged file is an empty cache."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from evals.item_cache import ItemCache
from evals.items import COLUMNS


def _items(*scores: float, start: int = 0) -> pd.DataFrame:
    rows = [
        (f"doc {number}", "prompt", score, None, 1.0, None, "q", "g", "p", "", 0, *[None] * 5) for number, score in enumerate(scores, start)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _open(folder: Path, **changes: str) -> ItemCache:
    return ItemCache.open(folder, **{"model": "a" * 64, "prompting": "b" * 64, "settings": "c" * 64, **changes})


def test_items_are_added_and_the_newest_score_of_an_item_counts(tmp_path: Path) -> None:
    cache = _open(tmp_path)
    assert cache.read().empty
    cache.add(_items(0.0, 1.0))
    cache.add(_items(0.5, 0.25, start=1))
    table = _open(tmp_path).read().set_index("doc_hash")["score"]
    assert table.to_dict() == {"doc 0": 0.0, "doc 1": 0.5, "doc 2": 0.25}


@pytest.mark.parametrize("other", [{"model": "d" * 64}, {"prompting": "d" * 64}, {"settings": "d" * 64}])
def test_another_model_prompt_or_setting_has_a_file_of_its_own(other: dict[str, str], tmp_path: Path) -> None:
    _open(tmp_path).add(_items(1.0))
    assert _open(tmp_path, **other).read().empty


@pytest.mark.parametrize(
    "spoil", [lambda path: path.write_bytes(path.read_bytes()[:-9]), lambda path: path.with_suffix(".sha256").unlink()]
)
def test_a_file_that_does_not_match_its_digest_is_treated_as_absent(spoil, tmp_path: Path) -> None:
    cache = _open(tmp_path)
    cache.add(_items(1.0))
    spoil(cache.path)
    assert cache.read().empty
    cache.add(_items(0.5))
    assert cache.read()["score"].tolist() == [0.5]
