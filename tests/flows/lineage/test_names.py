"""The package's names are found in their modules when they are used, and not before."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

import flows.lineage


def test_every_name_is_found_where_it_says() -> None:
    assert set(flows.lineage.__all__) == set(flows.lineage._HOMES)
    for name in flows.lineage.__all__:
        assert getattr(import_module(f"flows.lineage.{flows.lineage._HOMES[name]}"), name) is getattr(flows.lineage, name)
    with pytest.raises(AttributeError, match="no_such_name"):
        flows.lineage.no_such_name  # noqa: B018


def test_the_commands_start_without_scipy_and_pandas() -> None:
    script = "import sys, flows.cli.app; print(sorted({'scipy.stats', 'pandas', 'mlflow', 'torch', 'prefect'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300).stdout.strip() == "[]"
