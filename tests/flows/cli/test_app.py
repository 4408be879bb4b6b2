"""The tree of commands and what each says about itself."""

from __future__ import annotations

import pytest

from flows.cli.app import app
from flows.cli.errors import run


def test_the_tree_holds_the_commands_of_the_design(paths: list[tuple[str, ...]]) -> None:
    designed = "init doctor validate round history audit approve reject rollback sweep export deploy demo watch verify pull explore"
    assert {(name,) for name in designed.split()} | {("gate", "replay"), ("gate", "plan")} <= set(paths)


def test_every_command_has_help(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, [*path, "--help"]) == 0
    assert "Usage: skillstack" in capsys.readouterr().out


def test_no_command_shows_the_help_and_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, []) == 1
    assert "Usage: skillstack" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, ["--version"]) == 0
    assert capsys.readouterr().out.startswith("skillstack 0.")
