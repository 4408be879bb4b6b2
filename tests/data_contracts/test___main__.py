"""The shell command: what it prints for people and machines, and its exit code."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from data_contracts.__main__ import main
from data_contracts.report.render import report_table


@pytest.fixture
def drop(good_lines: list[bytes], write_drop: Callable[..., Path]) -> Path:
    strange = b'{"<script>alert(1)</script>": 1}'
    return write_drop([*good_lines, *good_lines[:3], strange])


def test_the_terminal_shows_the_outcome_and_every_check_that_fired(drop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(drop), "--skill", "notes", "--out", str(tmp_path / "out")]) == 1
    seen = capsys.readouterr()
    assert "failed" in seen.out
    assert "schema" in seen.out
    assert "exact_duplicate" in seen.out
    assert seen.err.strip().endswith("raise contract.max_bad_fraction)")
    assert len(seen.err.strip().splitlines()) == 1
    console = Console(width=120, record=True, file=(tmp_path / "screen").open("w"))
    console.print(report_table(json.loads((tmp_path / "out" / "report.json").read_text())))
    assert re.search(r"rows read\s+64", console.export_text())


def test_json_for_machines_is_the_manifest_or_the_report(drop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(drop), "--skill", "notes", "--out", str(tmp_path / "a"), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["outcome"] == "failed"
    assert main([str(drop), "--skill", "notes", "--out", str(tmp_path / "b"), "--json", "--max-bad-fraction", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "drop"
    assert main([str(tmp_path / "absent"), "--skill", "notes", "--out", str(tmp_path / "c")]) == 1
    assert "does not exist" in capsys.readouterr().err
