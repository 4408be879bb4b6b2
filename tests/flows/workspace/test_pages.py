"""Tables that people read: one row per suite, in its own unit."""

from __future__ import annotations

from data_contracts.digests import text_digest
from data_contracts.manifests import EvalReport, SuiteResult
from flows.workspace.pages import suite_rows


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


def test_one_row_per_suite_in_its_own_unit_and_nothing_sealed() -> None:
    rows = list(suite_rows(report(old=0.5, prose=0.45, old_sealed=0.5, new=1.0), report(old=0.75, prose=0.4, old_sealed=0.5), ["old"]))
    assert [(row["suite"], row["champion"], row["candidate"], row["change"], row["lost"]) for row in rows] == [
        ("old", "75.0 %", "50.0 %", "-25.0 points", "LOST"),
        ("prose", "0.400 bits/byte", "0.450 bits/byte", "+0.050 bits per byte", ""),
    ]
