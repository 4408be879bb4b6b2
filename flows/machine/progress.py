"""Progress bars on stderr; off with --json and in workers, which have Prefect's log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Advance = Callable[[float, float, str], None]
"""advance(done, total, note)"""

_console: Console | None = None


def show_progress(console: Console | None) -> None:
    """Choose the console of the bars for the rest of this process; None, the default, turns them off."""
    global _console
    _console = console


@contextmanager
def bar(label: str) -> Iterator[Advance]:
    """One bar, which stays visible with its final state. Nothing is drawn when progress is off."""
    if _console is None:
        yield lambda _done, _total, _note: None
        return
    columns = (
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description:<24}", markup=False),
        BarColumn(bar_width=10),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
    )
    with Progress(*columns, console=_console, refresh_per_second=4) as progress:
        row = progress.add_task(label, total=None, note="")

        def advance(done: float, total: float, note: str) -> None:
            progress.update(row, completed=int(done), total=int(total), note=note)

        yield advance
        done = progress.tasks[row].total or 1
        progress.update(row, completed=done, total=done)


def say(text: str, style: str | None = None) -> None:
    """A line above or below the bars."""
    if _console is not None:
        _console.print(text, style=style)
