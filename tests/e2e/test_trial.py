"""A new user's trial: three drops of 600 rows of different kinds in a row on nano, through the command line, nothing set but the drop.

Each is promoted, or held with hints that lead to its promotion; what was promoted before it and what nano knew stay.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.slow

ROUND = ("desks", "measures", "queries")  # routing with a taxonomy, unit conversion, SQL with aggregates
MORE_ROWS, MORE_ITEMS = 2400, 1200
FLOOR = 5.0  # points: the gate blocks at an observed loss of that size, whatever the test says


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Run skillstack in the project's folder; gives the exit code and what it printed."""
    hidden = {"MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}

    def run(*arguments: str) -> tuple[int, str]:
        line = [sys.executable, "-m", "flows.cli.app", *arguments]
        done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 2, 3), done.stdout + done.stderr
        return done.returncode, done.stdout

    return run


def test_three_drops_in_a_row_are_learned_and_what_was_there_is_kept(command: Any, three_drops: Any, tmp_path: Path) -> None:
    command("init", ".")
    taught: dict[str, float] = {}
    for skill in ROUND:
        drop = three_drops.write_drop(skill, tmp_path / f"{skill}.jsonl")
        code, printed = command("round", drop.name, "--skill", skill, "--json")
        for _ in range(2):  # held: what the verdict says first, which may be two things one after the other
            if code == 0:
                break
            hint = json.loads(printed)["next"][0]
            if "bring more rows" in hint:
                drop = three_drops.write_drop(skill, tmp_path / f"{skill}-more.jsonl", rows=MORE_ROWS)
            else:
                assert "Give each of the earlier skills about" in hint, json.loads(printed)["next"]
                _add_items(command, three_drops, tmp_path, taught)
            code, printed = command("round", drop.name, "--skill", skill, "--json")
        outcome = json.loads(printed)
        assert (code, outcome["decision"]) == (0, "PASS"), (skill, outcome["reasons"], outcome["next"])
        suites = {suite["suite"]: suite for suite in outcome["suites"]}
        before, after = (100 * suites[skill][when] for when in ("before", "after"))
        assert after >= 50 > 20 > before, (skill, before, after)  # always one desk: 17 %; a number or a statement: never
        for name, suite in suites.items():
            if suite["category"] in ("skill", "general") and name != skill:
                assert 100 * (suite["after"] - suite["before"]) > -FLOOR, (skill, name, suite)
        for name, learned in taught.items():  # not a little a round, either
            assert 100 * suites[name]["after"] > learned - FLOOR, (skill, name, learned)
        prose = suites["prose"]
        assert prose["after"] / prose["before"] < 1.01, (skill, prose)
        taught[skill] = after
    assert list(taught) == list(ROUND)
    assert command("verify")[0] == 0


def _add_items(command: Any, three_drops: Any, folder: Path, skills: Iterable[str]) -> None:
    """Items of the same kinds with another seed, and the setting that `items` says they need."""
    for skill in skills:
        file = three_drops.write_drop(skill, folder / f"{skill}-items.jsonl", rows=MORE_ITEMS, seed=2)
        command("items", file.name, "--skill", skill)
    config = folder / "skillstack.yaml"
    values = yaml.safe_load(config.read_text(encoding="utf-8"))
    values["evaluation"]["skills"] = {skill: {"more_items": f"suites/{skill}.more.jsonl"} for skill in skills}
    config.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
