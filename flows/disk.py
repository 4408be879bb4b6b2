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
def naming_disk_errors(state_dir: Path) -> Iterator[None]:
    """Turn the operating system's disk errors into SkillstackError; every other error passes unchanged."""
    try:
        yield
    except OSError as error:
        where = str(error.filename or state_dir)
        if error.errno in _FULL:
            raise SkillstackError(
                where, "no space left on the disk", f"free space under {state_dir} or set state_dir to another disk, then run it again"
            ) from error
        if error.errno in _UNWRITABLE:
            raise SkillstackError(
                where, f"cannot be written: {error.strerror}", "check who owns the folder, or set state_dir elsewhere"
            ) from error
        raise
