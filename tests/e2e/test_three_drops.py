"""The three drops of a first user's trial are what they say: the same every time, statements that run, conversions that are right."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import pytest


def test_the_same_drops_every_time_and_no_row_twice(three_drops: ModuleType, tmp_path: Path) -> None:
    for skill in three_drops.DROPS:
        one, again = (three_drops.write_drop(skill, tmp_path / f"{skill}-{time}.jsonl").read_bytes() for time in (1, 2))
        assert one == again
        assert len(set(one.splitlines())) == 600


def test_every_label_is_of_the_taxonomy_and_none_is_rare(three_drops: ModuleType) -> None:
    count = Counter(three_drops.pairs("desks").values())
    assert set(count) == {f"{area}/{desk}" for area, desks in three_drops.TAXONOMY.items() for desk in desks}
    assert max(count.values()) < 600 / 5  # whoever always says one label has less than a fifth
    assert min(count.values()) >= 30


def test_every_statement_runs_on_its_tables(three_drops: ModuleType) -> None:
    store = sqlite3.connect(":memory:")
    for table, (texts, numbers) in three_drops.SCHEMA.items():
        store.execute(f"CREATE TABLE {table} ({', '.join([f'{name} TEXT' for name in texts] + [f'{name} INTEGER' for name in numbers])})")
    statements = list(three_drops.pairs("queries").values())
    for statement in statements:
        store.execute(statement)
    assert len(set(statements)) > 400


def test_both_sides_of_a_conversion_are_the_same_quantity(three_drops: ModuleType) -> None:
    size = {"km": 1000, "m": 1, "cm": Fraction(1, 100), "mm": Fraction(1, 1000), "t": 10**6, "kg": 1000, "g": 1, "l": 1,
            "ml": Fraction(1, 1000), "ha": 10**4, "a": 100, "h": 3600, "min": 60}  # fmt: skip
    for asked, answer in three_drops.pairs("measures").items():
        _, number, unit, _, wanted = asked.split()
        value, given = answer.split()
        assert given == wanted
        assert Fraction(value) * size[given] == Fraction(number) * size[unit]


@pytest.mark.parametrize("script", ["e2e/three_drops.py", "benchmarks/rounds/first_drops.py"])
def test_asking_a_script_of_drops_for_help_writes_nothing(script: str, tmp_path: Path) -> None:
    found = Path(__file__).parents[1] / script
    done = subprocess.run([sys.executable, "-P", found, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "OUT" in done.stdout
    assert list(tmp_path.iterdir()) == []
