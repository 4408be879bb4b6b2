"""What an earlier round left is read only where its digests still hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from data_contracts.config import ContractConfig
from data_contracts.errors import DropError
from data_contracts.validate import validate_drop


def test_an_earlier_round_that_was_changed_is_not_trusted(good_lines: list[bytes], write_drop: Callable[..., Path], tmp_path: Path) -> None:
    validate_drop(write_drop(good_lines), tmp_path / "first", skill="first", config=ContractConfig())
    with (tmp_path / "first" / "heldout.jsonl").open("a") as stream:
        stream.write("{}\n")
    with pytest.raises(DropError, match="has changed since its manifest"):
        validate_drop(write_drop(good_lines), tmp_path / "second", skill="second", config=ContractConfig(), earlier=[tmp_path / "first"])
