"""The terminal prints text as it stands: markup, emoji codes and escape sequences in it are shown and have no effect."""

from __future__ import annotations

import io

from rich.table import Table

from data_contracts.terminal import PlainConsole


def _printed(*things: object, width: int = 60) -> str:
    console = PlainConsole()
    console.file, console.width = io.StringIO(), width
    for thing in things:
        console.print(thing)
    return console.file.getvalue()


def test_text_is_printed_as_it_stands() -> None:
    assert _printed("[bold]a[/bold] :smile: \x1b[31mred") == "[bold]a[/bold] :smile: \\x1b[31mred\n"


def test_a_cell_of_a_table_is_measured_with_its_escapes() -> None:
    table = Table("name")
    table.add_row("\x1b]0;title\x07")
    assert "\\x1b]0;title\\x07" in _printed(table)
    assert "\x1b" not in _printed(table)
