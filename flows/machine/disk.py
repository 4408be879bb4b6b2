"""A full or read-only disk as an error of one line, wherever the write failed."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from data_contracts.errors import SkillstackError
from data_contracts.full_disk import WHAT, full_disk_as

_UNWRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM}


def naming_full_disk(folder: Path) -> AbstractContextManager[None]:
    """Turn the error of a full disk into SkillstackError; every other error passes unchanged."""
    return full_disk_as(SkillstackError, folder, f"free space under {folder} or set state_dir to another disk, then run it again")


def require_room(folder: Path, needed: int) -> None:
    """Raise SkillstackError, with both numbers, before a write that would fail half-way."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        what = f"{WHAT}: {free / 1e6:.1f} MB are free, {needed / 1e6:.0f} MB are needed to begin"
        raise SkillstackError(str(folder), what, "free space there or set state_dir to another disk, then run it again")


@contextmanager
def naming_disk_errors(state_dir: Path) -> Iterator[None]:
    """Turn the operating system's disk errors into SkillstackError; every other error passes unchanged."""
    try:
        with naming_full_disk(state_dir):
            yield
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        raise SkillstackError(
            str(error.filename or state_dir),
            f"cannot be written: {error.strerror}",
            "check the folder's owner and permissions, or set state_dir to another folder",
        ) from error
