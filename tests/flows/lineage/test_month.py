"""The month of a lineage in MLflow: its page and its Markdown hold every decision with person and reason, holds, and findings."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import pytest

from data_contracts.manifests import Decision
from flows.config.model import SkillstackConfig
from flows.lineage import approve_version, current_champion, promote_on_approval, read_ledger, reject_version, roll_back
from flows.review.monthly import MonthlyReport, monthly_audit


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
