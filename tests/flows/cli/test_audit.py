"""The audit on a terminal of 80 columns, however many suites and rounds there are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_contracts.digests import text_digest
from data_contracts.manifests import Decision, EvalReport, SuiteResult
from evals.audit.forgetting import ForgettingAudit, RoundEvaluation, audit_forgetting
from evals.items import Evaluation, SuiteItems
from flows.cli.audit import audit_lines
from flows.cli.console import print_answer
from flows.review.audit import AuditResult

SUITES = ("customer-routing-of-the-north-region", *(f"suite-{number}" for number in range(13)))


def evaluation(model: str, right: int) -> Evaluation:
    """Ten items a suite, of which so many are right."""
    items = {}
    for name in SUITES:
        ids = tuple(f"{name} {number}" for number in range(10))
        score = np.array([1.0] * right + [0.0] * (10 - right))
        digest = text_digest(name)
        result = SuiteResult(
            name=name, category="general", metric="acc", higher_is_better=True, n=10, score=right / 10, suite_sha256=digest, seconds=0.0
        )
        empty = ("",) * 10
        items[name] = SuiteItems(
            result, ids, ids, score, np.full(10, np.nan), np.ones(10), (None,) * 10, prompt=empty, gold=empty, prediction=empty
        )
    suites = tuple(each.result for each in items.values())
    return Evaluation(EvalReport(model_sha256=text_digest(model), settings={}, settings_sha256="0", suites=suites), items)


def lineage(rounds: int) -> ForgettingAudit:
    rows = [RoundEvaluation(0, None, evaluation("base", 9), label="round 0 base")]
    for number in range(1, rounds):
        decision = Decision.INCONCLUSIVE if number == 2 else Decision.PASS
        about = {"decision": decision, "label": f"round {number} s{number} (osft)", "attempts": 3 if number == rounds - 1 else 1}
        rows.append(RoundEvaluation(number, f"s{number}", evaluation(str(number), number % 10), **about))
    return audit_forgetting(rows, repeats=20)


def printed(audit: ForgettingAudit, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr("flows.cli.console._out.width", columns)
    print_answer({}, audit_lines(AuditResult(audit=audit, report=Path("r.html")), columns))
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("columns", [46, 80, 200])
def test_suites_are_rows_and_no_score_is_cut(columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(lineage(14), columns, capsys, monkeypatch)
    table = [line for line in lines if line.startswith(("┃", "│"))]
    assert max(map(len, table)) <= columns
    assert "…" not in "".join(lines)
    (row,) = [line for line in table if "suite-4" in line]
    assert "90.0" in row, "the base"
    assert row.rstrip("│ ").endswith("30.0"), "the newest round"


def test_rounds_that_do_not_fit_are_named_and_every_round_has_its_verdict(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "\n".join(printed(lineage(14), 80, capsys, monkeypatch))
    assert "not shown for lack of width: rounds 1, 2, 3, 4, 5, 6, 7, 8; all are in the report" in text
    assert "2  round 2 s2 (osft): INCONCLUSIVE, not promoted" in text
    assert "13.3  round 13 s13 (osft): PASS" in text, "the third attempt at round 13"
    short = "\n".join(printed(lineage(4), 80, capsys, monkeypatch))
    assert "not shown" not in short
