"""A full or unwritable disk, said in one line instead of a traceback from wherever a write happened to fail."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_contracts.errors import SkillstackError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_UNWRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM}


@contextmanager
def naming_full_disk(folder: Path) -> Iterator[None]:
    """Turn what the system says of a full disk into SkillstackError; every other error passes unchanged."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise SkillstackError(
            str(error.filename or folder),
            "no space left on the disk",
            f"free space under {folder} or set state_dir to another disk, then run it again",
        ) from error


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
            "check who owns the folder, or set state_dir elsewhere",
        ) from error
