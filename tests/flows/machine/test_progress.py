"""Bars are drawn only where a console was chosen, and take no text for markup."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from rich.console import Console

from flows.machine.progress import bar, say, show_progress


@pytest.fixture
def screen() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    show_progress(Console(file=stream, force_terminal=True, width=120))
    yield stream
    show_progress(None)


def test_nothing_is_drawn_without_a_console(capsys: pytest.CaptureFixture[str]) -> None:
    show_progress(None)
    with bar("evaluate") as advance:
        advance(1, 2, "half")
    say("done")
    assert capsys.readouterr() == ("", "")


def test_a_bar_ends_full_with_its_last_note(screen: io.StringIO) -> None:
    with bar("evaluate [red]x[/red]") as advance:
        advance(1, 4, "suite [b]a[/b]")
    shown = screen.getvalue()
    assert "evaluate [red]x[/red]" in shown
    assert "suite [b]a[/b]" in shown
    assert "4/4" in shown


def test_a_stage_that_reported_nothing_ends_full_too(screen: io.StringIO) -> None:
    with bar("validate"):
        pass
    assert "1/1" in screen.getvalue()


def test_a_line_is_printed_beside_the_bars(screen: io.StringIO) -> None:
    say("every suite was reused")
    assert screen.getvalue().strip() == "every suite was reused"
