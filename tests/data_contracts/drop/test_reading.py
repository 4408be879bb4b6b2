"""The first pass over a drop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from data_contracts.config import ContractConfig
from data_contracts.validate import validate_drop


@pytest.fixture
def drop(good_lines: list[bytes], write_drop: Callable[..., Path]) -> Path:
    strange = b'{"<script>alert(1)</script>": 1}'
    return write_drop([*good_lines, *good_lines[:3], strange])


def test_progress_runs_to_the_size_of_the_file(drop: Path, tmp_path: Path) -> None:

    seen: list[tuple[int, int]] = []
    config = ContractConfig(max_bad_fraction=1.0)
    validate_drop(drop, tmp_path / "out", skill="notes", config=config, progress=lambda done, total: seen.append((done, total)))
    size = drop.stat().st_size
    assert seen[-1] == (size, size)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
