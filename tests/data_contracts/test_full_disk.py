"""A full disk is one error, whoever reports it; nothing else is taken for one."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from data_contracts.errors import DropError, TrainingError
from data_contracts.full_disk import full_disk_as


def _translated(error: Exception) -> pytest.ExceptionInfo[Exception]:
    with pytest.raises(Exception) as raised, full_disk_as(TrainingError, Path("folder"), "free some"):  # noqa: PT011
        raise error
    return raised


def _raised_from(cause: BaseException) -> Exception:
    error = RuntimeError("the library failed")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Quota"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
        _raised_from(OSError(errno.EFBIG, "too large")),
    ],
)
def test_a_full_disk_has_one_name(error: Exception) -> None:
    raised = _translated(error)
    assert str(raised.value) == "folder: the disk is full (free some)"
    assert raised.type is TrainingError
    assert raised.value.__cause__ is error


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "denied"), ValueError("of a row"), DropError("drop", "names No space left", "")])
def test_other_errors_pass_unchanged(error: Exception) -> None:
    assert _translated(error).value is error


def test_the_file_that_could_not_be_written_is_named() -> None:
    raised = _translated(OSError(errno.ENOSPC, "No space left on device", "folder/file"))
    assert str(raised.value).startswith("folder/file: the disk is full")
