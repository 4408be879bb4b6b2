"""No folder holds more than twelve modules side by side, tests and benchmarks included; `__init__` and `conftest` aside (ADR 0007)."""

from __future__ import annotations

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("top", ["data_contracts", "osft_engine", "evals", "flows", "infra", "docs", "tests"])
def test_at_most_twelve_modules_stand_side_by_side(top: str) -> None:
    modules = [path for path in (REPOSITORY / top).rglob("*.py") if path.name not in ("__init__.py", "conftest.py")]
    assert modules
    beside = {folder: sum(path.parent == folder for path in modules) for folder in {path.parent for path in modules}}
    assert {str(folder.relative_to(REPOSITORY)): count for folder, count in beside.items() if count > 12} == {}
