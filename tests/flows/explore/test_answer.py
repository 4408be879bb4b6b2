"""An expected error becomes a sentence on the page; a fault of the program stays a fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_contracts.errors import LineageError
from flows.explore.answer import Missing, attempt


def _fail(error: Exception) -> None:
    raise error


def test_a_result_passes() -> None:
    assert attempt(lambda: 3) == 3


def test_an_expected_error_keeps_place_reason_and_way_out() -> None:
    missing = attempt(lambda: _fail(LineageError("version 3", "has no files", "restore them")))
    assert isinstance(missing, Missing)
    assert missing.sentence() == "version 3: has no files (restore them)"
    assert Missing("version 3", "has no files", "").sentence() == "version 3: has no files"


def test_a_file_that_disappeared_is_named(tmp_path: Path) -> None:
    gone = tmp_path / "gone.json"
    missing = attempt(gone.read_bytes)
    assert isinstance(missing, Missing)
    assert (missing.where, missing.what) == (str(gone), "No such file or directory")
    assert "reload the page" in missing.sentence()


def test_a_fault_of_the_program_is_raised() -> None:
    with pytest.raises(KeyError):
        attempt(lambda: _fail(KeyError("layer")))
