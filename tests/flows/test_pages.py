"""What people read: a row a suite in its own unit, and a monthly text that says what waits and what is wrong."""

from __future__ import annotations

from pathlib import Path

from data_contracts.digests import text_digest
from data_contracts.manifests import EvalReport, SuiteResult
from evals.audit import ForgettingAudit
from flows.lineage import Finding, RoundRecord, Verification
from flows.monthly_audit import MonthlyReport, format_score, summary_lines, waiting_versions
from flows.pages import suite_rows


def report(**scores: float) -> EvalReport:
    suites = tuple(
        SuiteResult(
            name=name,
            category="drift" if name == "prose" else "skill",
            metric="acc",
            higher_is_better=name != "prose",
            sealed=name.endswith("_sealed"),
            n=50,
            score=score,
            suite_sha256=text_digest(name),
            seconds=0.0,
        )
        for name, score in scores.items()
    )
    return EvalReport(model_sha256=text_digest("m"), settings={}, settings_sha256=text_digest("s"), suites=suites)


def test_a_row_a_suite_in_its_own_unit_and_nothing_sealed() -> None:
    rows = list(suite_rows(report(old=0.5, prose=0.45, old_sealed=0.5, new=1.0), report(old=0.75, prose=0.4, old_sealed=0.5), ["old"]))
    assert [(row["suite"], row["champion"], row["candidate"], row["change"], row["lost"]) for row in rows] == [
        ("old", "75.0 %", "50.0 %", "-25.0 points", "LOST"),
        ("prose", "0.400 bits/byte", "0.450 bits/byte", "+0.050", ""),
    ]


def record(version: int, **changes: object) -> RoundRecord:
    values = {"round": version, "skill": "x", "attempt": 1, "version": version, "status": "finished", "run_id": str(version), **changes}
    return RoundRecord.model_validate(values)


def test_only_what_can_still_replace_the_champion_waits() -> None:
    champion = record(2, champion=True, decision="PASS", parent_version=1)
    held = record(3, decision="INCONCLUSIVE", parent_version=2)
    late = record(4, decision="INCONCLUSIVE", parent_version=1)
    refused = record(5, decision="INCONCLUSIVE", parent_version=2, rejected=True)
    blocked = record(6, decision="BLOCK", parent_version=2)
    assert list(waiting_versions([champion, held, late, refused, blocked])) == [3]


def test_findings_are_in_the_monthly_report(tmp_path: Path) -> None:
    finding = Finding(where="model.safetensors", problem="is missing")
    made = MonthlyReport(
        month="2026-11",
        champion=2,
        rounds=(),
        decisions=(),
        waiting=(3,),
        verification=Verification(rounds=1, files=1, bytes=1, findings=(finding,)),
        gaps=(),
        page=tmp_path / "a.html",
        summary=tmp_path / "a.md",
    )
    audit = ForgettingAudit.model_construct(rounds=(), suites=(), matrix=())
    text = "\n".join(summary_lines(made, audit))
    assert "**1 findings in the files and records:**\n- model.safetensors: is missing" in text
    assert "**Waiting for a person:** version 3" in text
    assert (format_score(0.5, "skill"), format_score(0.5, "drift"), format_score(None, "skill")) == ("50.0", "0.500", "-")
