"""Answers for programs are one JSON object on one line; the history fits a terminal of 80 columns."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.cli import console
from flows.lineage import RoundRecord
from flows.service.doctor import Diagnosis


@pytest.fixture
def as_json() -> Iterator[None]:
    console.choose(True)
    yield
    console.choose(False)


@pytest.mark.usefixtures("as_json")
def test_an_answer_is_one_line_of_json_with_null_for_nan(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_answer({"score": math.nan, "folder": Path("a/b"), "text": "zwei\nZeilen é"}, ["for people"])
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert json.loads(printed) == {"score": None, "folder": "a/b", "text": "zwei\nZeilen é"}


def test_the_history_fits_80_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.cli.console._out.width", 80)
    when = datetime(2026, 11, 26, 7, 20, tzinfo=UTC)
    common = {"run_id": "r", "status": "finished", "when": when, "who": "gate", "attempt": 1}
    named = common | {"round": 12, "skill": "customer-routing"}
    records = [
        RoundRecord(round=0, skill=None, version=1, event="promoted", **common),
        RoundRecord(version=13, decision="INCONCLUSIVE", event="held", why="too few", **named),
        RoundRecord(version=14, decision="PASS", event="promoted", champion=True, **(named | {"attempt": 2})),
    ]
    console.show_history(records)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    rows = [line for line in lines if "2026-11-26" in line]
    assert len(rows) == 3, "no date wraps"
    assert "INCONCLUSIVE" in rows[1]
    assert "14 *" in rows[2]
    assert "round 12, customer-routing: too few" in lines


def test_a_check_that_only_warns_is_not_marked_as_good(capsys: pytest.CaptureFixture[str]) -> None:
    console.choose(False)
    checks = (
        Diagnosis(check="suites", ok=True, detail="8 suites"),
        Diagnosis(check="calibration", ok=True, detail="warning: it is not set"),
        Diagnosis(check="model", ok=False, detail="does not load"),
    )
    console.show_diagnoses(checks)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["ok", "look", "wrong"]
