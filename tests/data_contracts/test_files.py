"""A file is there whole or not at all, whatever ends the writing of it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from data_contracts.files import replacing, write_atomically, write_rows


def _write_half(path: Path, one_writer: bool) -> None:
    with replacing(path, one_writer=one_writer) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt


@pytest.mark.parametrize("one_writer", [True, False])
def test_a_write_that_fails_leaves_the_file_before_it_and_nothing_else(one_writer: bool, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    write_atomically(path, "before")
    with pytest.raises(KeyboardInterrupt):
        _write_half(path, one_writer)
    assert [(each.name, each.read_text()) for each in path.parent.iterdir()] == [("file", "before")]
    with replacing(path, one_writer=one_writer) as temporary:
        temporary.write_text("after")
        assert path.read_text() == "before", "readers see the old file until the new one is whole"
    assert [(each.name, each.read_text()) for each in path.parent.iterdir()] == [("file", "after")]


def test_others_may_read_what_was_written(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", "text")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


def test_what_a_kill_left_of_a_large_file_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / ".file.partial").write_text("left by a kill, and longer than what comes")
    with replacing(tmp_path / "file", one_writer=True) as temporary:
        temporary.write_text("whole")
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("file", "whole")]


def test_rows_are_one_line_of_utf8_each(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", ({"text": text} for text in ("é", "a\nb")))
    assert path.read_bytes() == '{"text": "é"}\n{"text": "a\\nb"}\n'.encode()
