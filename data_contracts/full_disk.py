"""The many faces of a full disk, known in one place: the system's, a database's, a file format's."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_contracts.errors import SkillstackError

WHAT = "the disk is full"
_NUMBERS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_SIGNS = ("No space left", "File too large", "os error 28", "os error 27", "Disk quota", "database or disk is full")


def is_full_disk(error: BaseException) -> bool:
    """Whether an error, or one that it was raised from, says that the disk (or the quota on it) is full."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        if isinstance(at, OSError) and at.errno in _NUMBERS:
            return True
        if any(sign in str(at) for sign in _SIGNS):
            return True
        at = at.__cause__ or at.__context__
    return False


@contextmanager
def full_disk_as(kind: type[SkillstackError], folder: Path, way_out: str) -> Iterator[None]:
    """Turn every report of a full disk into one error of this kind. Every other error passes unchanged."""
    try:
        yield
    except SkillstackError:
        raise
    except Exception as error:  # libraries report it under many types
        if not is_full_disk(error):
            raise
        raise kind(str(getattr(error, "filename", None) or folder), WHAT, way_out) from error
