"""The work space of a validation: gone when it ends, and a full or closed disk is one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from data_contracts.config import ContractConfig
from data_contracts.errors import DropError
from data_contracts.validate import validate_drop


@pytest.fixture(scope="module")
def drop(tmp_path_factory: pytest.TempPathFactory, good_lines: list[bytes]) -> Path:
    path = tmp_path_factory.mktemp("killed") / "drop.jsonl"
    path.write_bytes(b"\n".join([*good_lines, *good_lines[:5]]) + b"\n")
    return path


def test_a_full_disk_ends_in_one_line(drop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from data_contracts.drop.staging import Staging

    def no_room(self: Staging, *arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Staging, "keep", no_room)
    with pytest.raises(DropError, match="the disk is full"):
        validate_drop(drop, tmp_path / "out", skill="notes", config=ContractConfig())
    assert list((tmp_path / "out").iterdir()) == []


def test_an_output_that_cannot_be_written_ends_in_one_line(drop: Path, tmp_path: Path, write_drop: Callable[..., Path]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DropError, match="cannot be written"):
        validate_drop(drop, tmp_path / "file" / "out", skill="notes", config=ContractConfig())
