"""Disk errors are one line with the folder; other errors pass."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from data_contracts.errors import SkillstackError
from flows.machine.disk import naming_disk_errors, naming_full_disk, require_room


def _failed(number: int, path: str | None = None) -> OSError:
    return OSError(number, os.strerror(number), path)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_folder_that_cannot_be_written_is_named_with_its_way_out(tmp_path: Path, number: int) -> None:
    with pytest.raises(SkillstackError, match=r"cannot be written.*permissions") as raised, naming_disk_errors(tmp_path):
        raise _failed(number, "/mnt/state/items")
    assert raised.value.where == "/mnt/state/items"
    with pytest.raises(SkillstackError) as raised, naming_disk_errors(tmp_path):
        raise _failed(number)
    assert raised.value.where == str(tmp_path), "without a file the state directory is named"


@pytest.mark.parametrize("naming", [naming_disk_errors, naming_full_disk])
def test_a_full_disk_is_named_and_another_error_passes(tmp_path: Path, naming: type) -> None:
    with pytest.raises(SkillstackError, match="free space"), naming(tmp_path):
        raise _failed(errno.ENOSPC)
    with pytest.raises(FileNotFoundError), naming(tmp_path):
        raise _failed(errno.ENOENT, "absent")
    with naming(tmp_path):
        pass


def test_room_is_required_with_both_numbers(tmp_path: Path) -> None:
    require_room(tmp_path, 1)
    with pytest.raises(SkillstackError, match=r"MB are free, 1000000000000 MB are needed"):
        require_room(tmp_path, 10**18)
