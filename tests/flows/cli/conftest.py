"""Every command of the tree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from flows.cli.app import app


def _walk(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, child in getattr(command, "commands", {}).items():
        yield from _walk(child, (*path, name))


PATHS = list(_walk(typer.main.get_command(app)))


@pytest.fixture
def paths() -> list[tuple[str, ...]]:
    return PATHS


@pytest.fixture(params=PATHS, ids=" ".join)
def path(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """One command: the test runs with each."""
    return tuple(request.param)
