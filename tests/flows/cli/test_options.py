"""Several values after one option are read as the option repeated, and nothing else on the line changes."""

from __future__ import annotations

import pytest

from flows.cli.options import repeat_options


@pytest.mark.parametrize(
    ("line", "read"),
    [
        (
            "audit --checkpoints a b c --suites x y --json",
            "audit --checkpoints a --checkpoints b --checkpoints c --suites x --suites y --json",
        ),
        ("audit --checkpoints a --checkpoints b", "audit --checkpoints a --checkpoints b"),
        ("reevaluate --versions 1 2", "reevaluate --versions 1 --versions 2"),
        ("round drop.jsonl --skill sql -c my.yaml", "round drop.jsonl --skill sql -c my.yaml"),
        ("audit --suites x --out page.html", "audit --suites x --out page.html"),
        ("", ""),
    ],
)
def test_values_in_a_row(line: str, read: str) -> None:
    assert repeat_options(line.split()) == read.split()
