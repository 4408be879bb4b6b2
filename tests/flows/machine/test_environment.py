"""Where the lineage's database lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_contracts.errors import ConfigError
from flows.machine.environment import default_tracking_uri


@pytest.mark.parametrize("name", ["what?", "no#1"])
def test_a_path_that_no_database_address_can_hold_is_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="rename the folder"):
        default_tracking_uri(tmp_path / name)
