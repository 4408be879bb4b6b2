"""What a validation ends with: the gravest reason decides, limits are inclusive, and a number that is odd fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from data_contracts.config import ContractConfig
from data_contracts.contract.read import load_contract, severities
from data_contracts.drop.reading import DropState
from data_contracts.drop.splitting import Carving
from data_contracts.drop.tally import Tally
from data_contracts.report.outcome import Ending
from data_contracts.rows.findings import Finding, Severity


def _ending(
    *findings: Finding,
    read: int = 100,
    clean: int = 80,
    bad: int = 0,
    dropped: int = 0,
    severity: dict[str, Severity] | None = None,
    **config: Any,
) -> Ending:
    contract = load_contract()
    tally = Tally(severities(contract, severity or {}))
    for finding in findings:
        tally.add(finding)
    state = DropState(read=read, bad=bad, dropped=dropped)
    written = {"clean": clean, "heldout": 10, "sealed": 5}
    return Ending(Path("drops/a.jsonl"), "sums", "0" * 64, contract, ContractConfig(**config), state, tally, written)


def _reason(ending: Ending) -> str:
    failure = ending.failure()
    return "" if failure is None else f"{failure.where}: {failure.what}"


def test_an_error_of_the_drop_itself_comes_before_those_of_rows() -> None:
    row, drop = Finding("json", 7, "is not JSON"), Finding("skill_name", 0, "the name is taken")
    assert _reason(_ending(row, drop, bad=1, max_bad_fraction=1.0)) == "drops/a.jsonl: the name is taken"


def test_rows_in_error_fail_the_drop_above_the_allowed_share_and_not_at_it() -> None:
    row = Finding("json", 7, "is not JSON")
    assert _reason(_ending(row, bad=3)) == "drops/a.jsonl:7: is not JSON; 2 more rows in error"
    assert _reason(_ending(row, bad=3, max_bad_fraction=0.03)) == ""
    assert _reason(_ending(row, bad=3, max_bad_fraction=0.0299)) != ""


def test_too_many_rows_left_out_fail_the_drop_with_the_checks_that_did_it() -> None:
    findings = [Finding("secret", line, "s") for line in (1, 2)] + [Finding("exact_duplicate", line, "d") for line in (3, 4, 5)]
    assert _reason(_ending(*findings, dropped=51)) == "drops/a.jsonl: 51 of 100 rows had to be left out (exact_duplicate 3, secret 2)"
    assert _reason(_ending(*findings, dropped=50)) == ""


def test_the_row_counts_of_config_and_contract() -> None:
    assert _reason(_ending(clean=9)) == "drops/a.jsonl: leaves 9 rows for training: the contract requires at least 10"
    assert _reason(_ending(clean=10)) == ""
    assert _reason(_ending(clean=9, min_rows=9)) == ""
    assert _reason(_ending(read=101, max_rows=100)) == "drops/a.jsonl: has 101 rows: the contract allows 100"
    assert _reason(_ending(clean=1, severity={"row_count": "warning"})) == ""


def test_report_and_manifest_count_the_same_rows() -> None:
    ending = _ending(Finding("secret", 3, "s"), bad=2, dropped=3)
    report, manifest = ending.report([], Carving(np.zeros(0, np.uint8), None), None), ending.manifest({})
    assert report["outcome"] == "passed"
    assert report["rows"] == {"read": 100, "bad": 2, "dropped": 3, "clean": 80, "heldout": 10, "sealed": 5}
    assert (manifest.rows_read, manifest.rows_clean, manifest.rows_quarantined) == (100, 80, 5)
    assert report["findings"][0]["examples"] == [{"line": 3, "reason": "s"}]
    assert report["source"] == manifest.source == "a.jsonl"


def test_the_report_of_a_refused_drop_says_where_what_and_the_way_out_without_the_folder() -> None:
    ending = _ending(Finding("json", 7, "is not JSON"), bad=1)
    report = ending.report([], Carving(np.zeros(0, np.uint8), None), ending.failure())
    assert (report["outcome"], report["where"], report["reason"]) == ("failed", "a.jsonl:7", "is not JSON")
    assert "contract.max_bad_fraction" in report["way_out"]
