"""The month's report, page and Markdown: every decision with person and reason, what waits for a person, what is wrong; all as text."""

from __future__ import annotations

import html
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from data_contracts.manifests import Decision
from evals.audit.forgetting import ForgettingAudit
from evals.report.render import MonthView
from flows.config.model import SkillstackConfig
from flows.lineage import (
    Finding,
    LedgerEntry,
    RoundRecord,
    Verification,
    approve_version,
    current_champion,
    promote_on_approval,
    read_ledger,
    read_tree,
    reject_version,
    roll_back,
)
from flows.lineage.storage.records import FIRST_PRIOR
from flows.review.monthly import MonthlyReport, month_view, monthly_audit, summary_lines, waiting_rounds


def record(version: int, **changes: object) -> RoundRecord:
    values = {"round": version, "skill": "x", "attempt": 1, "version": version, "status": "finished", "run_id": str(version), **changes}
    return RoundRecord.model_validate(values)


def test_only_what_can_still_replace_the_champion_waits() -> None:
    champion = record(2, champion=True, decision="PASS", parent_version=1)
    held = record(3, decision="INCONCLUSIVE", parent_version=2)
    late = record(4, decision="INCONCLUSIVE", parent_version=1)
    refused = record(5, decision="INCONCLUSIVE", parent_version=2, rejected=True)
    blocked = record(6, decision="BLOCK", parent_version=2)
    assert list(waiting_rounds([champion, held, late, refused, blocked])) == [held]


HOSTILE = "<script>alert(1)</script> a|b [x](y) \x1b[31m"


def monthly(tmp_path: Path) -> MonthlyReport:
    finding = Finding(where="model.safetensors", problem="is missing")
    digests = {"model_sha256": "0" * 64, "manifest_sha256": "1" * 64, "prior": FIRST_PRIOR}
    about = {
        "version": 2,
        "previous": 1,
        "champion": 2,
        "time": datetime(2026, 11, 3, 6, 0, tzinfo=UTC),
        "actor": HOSTILE,
        "reason": HOSTILE,
    }
    entry = LedgerEntry(sequence=0, action="promote-approved", decision="INCONCLUSIVE", authenticated="ann", **about, **digests)
    return MonthlyReport(
        month="2026-11",
        as_of=date(2026, 12, 3),
        champion=2,
        rounds=(),
        decisions=(entry,),
        recorded=tuple(entry.model_copy(update={"action": action}) for action in ("key", "collect", "collect")),
        waiting=(3,),
        holds=(record(3, decision="INCONCLUSIVE", ended=datetime(2026, 10, 9, tzinfo=UTC), reasons=(HOSTILE, "and more")),),
        verification=Verification(rounds=1, files=1, bytes=1, findings=(finding,), head="0:abc"),
        gaps=(),
        page=tmp_path / "a.html",
        summary=tmp_path / "a.md",
    )


def test_findings_are_in_the_monthly_report(tmp_path: Path) -> None:
    audit = ForgettingAudit.model_construct(rounds=(), suites=(), matrix=())
    text = "\n".join(summary_lines(monthly(tmp_path), audit))
    assert ": 1 finding. The ledger is not signed. Head of the ledger: 0:abc." in text
    assert "- model.safetensors: is missing" in text
    assert "- version 3 (round 3, x) since 2026-10-09: &lt;script&gt;alert(1)" in text
    assert "| 2026-11-03 06:00 | promote-approved (verdict INCONCLUSIVE) | 2 | " in text
    assert "Rounds in 2026-11: 0. Decisions: 1. Also in the ledger: 2 collect, 1 key." in text
    assert "<script>" not in text
    assert "\x1b" not in text


def test_what_is_todays_under_an_earlier_month_is_called_so(tmp_path: Path) -> None:
    """The report of November, written on 3 December: champion, waiting versions, findings and every score are those of 3 December."""
    report = monthly(tmp_path)
    text = "\n".join(summary_lines(report, ForgettingAudit.model_construct(rounds=(), suites=(), matrix=())))
    assert "Champion as of 2026-12-03: version 2." in text
    assert "**Waiting for a person, as of 2026-12-03** (" in text
    assert "As of 2026-12-03: 1 files and 0 ledger entries verified" in text
    assert "Scores after each round, as of 2026-12-03, in %" in text
    page = lineage_page(month_view(report))
    assert "Champion as of 2026-12-03: version 2." in page
    assert "Waiting for a person, as of 2026-12-03:" in page
    assert ">Files and records, as of 2026-12-03</h2>" in page
    assert ">Decisions in 2026-11</h2>" in page


def test_the_months_page_holds_decisions_and_findings_as_text(tmp_path: Path) -> None:
    """The page said what the lineage's page says, under another title: no decision, no finding."""
    view = month_view(monthly(tmp_path))
    assert view.decisions == (
        ("2026-11-03 06:00", "promote-approved (verdict INCONCLUSIVE)", "2", f"{HOSTILE} (signed in as ann)", HOSTILE),
    )
    page = lineage_page(view)
    for said in (
        "Skills of the model, 2026-11",
        "promote-approved (verdict INCONCLUSIVE)",
        "is missing",
        "Waiting for a person",
        "0:abc",
        "version 3 (round 3, x) since 2026-10-09: ",
    ):
        assert said in page
    assert "<script>alert" not in page
    assert html.escape("<script>alert(1)</script> a|b [x](y)") in page


def lineage_page(view: MonthView) -> str:
    """The block of the page that a month adds, with the template that every page uses."""
    from evals.report.render import _environment

    template = _environment().get_template("lineage.html.j2")
    context = template.new_context(
        {"month": view, "audit": ForgettingAudit.model_construct(rounds=(), suites=(), matrix=(), interval="90 %")}
    )
    return "".join("".join(template.blocks[name](context)) for name in ("title", "header", "month"))


@pytest.fixture
def month(grown: Any, register: Any, monkeypatch: pytest.MonkeyPatch) -> MonthlyReport:
    """A rejected, an overridden and rolled back, and a held version; and a file that somebody deleted."""
    parent = current_champion(grown).model_sha256
    refused, blocked, held = (
        register(grown, name, 3, parent=parent, decision=decision)[1]
        for name, decision in (("one", Decision.INCONCLUSIVE), ("two", Decision.BLOCK), ("three", Decision.INCONCLUSIVE))
    )
    reject_version(grown, refused.version, reviewer="ann", reason="too few items")
    approve_version(grown, blocked.version, reviewer="bob", reason="a customer waits", override=True)
    promote_on_approval(grown, blocked.version)
    roll_back(grown, reason="it forgot the old skill", actor="cleo")
    (held.checkpoint / "metrics.jsonl").write_text("{}\n")
    (held.checkpoint / "model" / "model.safetensors").unlink()
    monkeypatch.setattr("flows.review.monthly.publish_audit", lambda *_: None)  # an artifact in Prefect would start its server
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{grown.state_dir}/mlflow.db")
    config = SkillstackConfig.model_validate({"state_dir": grown.state_dir, "tracking": {"model_name": "tiny", "experiment": "rounds"}})
    return monthly_audit.fn(config)


def test_only_decisions_are_counted_as_decisions(month: MonthlyReport, grown: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A re-evaluation, a collection and a key are entries of the ledger that decide nothing."""
    assert month.recorded == ()
    assert "Also in the ledger" not in month.summary.read_text()
    real = read_tree(grown)
    others = [real.ledger[-1].model_copy(update={"action": action}) for action in ("reevaluate", "collect", "key")]
    monkeypatch.setattr("flows.review.monthly.read_tree", lambda _: real.model_copy(update={"ledger": (*real.ledger, *others)}))
    config = SkillstackConfig.model_validate({"state_dir": grown.state_dir, "tracking": {"model_name": "tiny", "experiment": "rounds"}})
    found = monthly_audit.fn(config)
    decided = [entry.action for entry in read_ledger(grown) if entry.action != "register"]
    assert [entry.action for entry in found.decisions] == decided == [entry.action for entry in month.decisions]
    assert [entry.action for entry in found.recorded] == ["reevaluate", "collect", "key"]
    assert f"Decisions: {len(decided)}. Also in the ledger: 1 collect, 1 key, 1 reevaluate." in found.summary.read_text()


def test_the_previous_month_has_its_own_page_and_none_of_this_months_decisions(month: MonthlyReport, grown: Any) -> None:
    config = SkillstackConfig.model_validate({"state_dir": grown.state_dir, "tracking": {"model_name": "tiny", "experiment": "rounds"}})
    found = monthly_audit.fn(config, "previous")
    first = found.as_of.replace(day=1)
    assert found.month == f"{date.fromordinal(first.toordinal() - 1):%Y-%m}"
    assert found.page.name == f"audit-{found.month}.html"
    assert (found.decisions, found.rounds) == ((), ())
    page = html.unescape(found.page.read_text())
    today = f"as of {found.as_of}"
    for heading in ("Rounds", "What each round took", "Every skill after every round", "Learned, best, now", "What is left"):
        assert f">{heading}, {today}</h2>" in page, heading


def test_page_and_markdown_tell_the_same_month(month: MonthlyReport, grown: Any) -> None:
    texts = [html.unescape(month.page.read_text()), month.summary.read_text()]
    decided = [entry for entry in read_ledger(grown) if entry.action not in ("register", "promote")]
    assert [entry.action for entry in decided] == ["reject", "approve", "override", "rollback"]
    for text in texts:
        for entry in decided:
            assert entry.actor in text
            assert entry.reason in text
            assert f"{entry.time:%Y-%m-%d %H:%M}" in text
        assert "override (verdict BLOCK)" in text, "not the word for an approval"
        assert any(each.skill is None for each in month.rounds)
        assert f"Rounds in {month.month}: {sum(1 for each in month.rounds if each.skill)}." in text, (
            "the base's registration taught nothing"
        )
        assert "rollback from version 5" in text, "what it took away, beside the version that it returned to"
        (waiting,) = month.holds
        assert f"version {waiting.version} (round 3, three)" in text
        assert waiting.reasons[0] in text, "why it is held"
        (finding,) = month.verification.findings
        assert finding.problem.split(" (")[0] in text


def test_a_version_that_was_champion_for_an_hour_is_told_from_one_that_never_was(month: MonthlyReport) -> None:
    text = html.unescape(Path(month.page).read_text())
    assert "rolled back" in text
    assert "not promoted" in text
