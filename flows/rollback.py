"""Rollback as its own flow: an earlier champion becomes champion again after its files were verified; the ledger says who and why."""

from __future__ import annotations

from prefect import flow

from flows.house import open_house
from flows.lineage import LedgerEntry
from flows.settings import SkillstackConfig


@flow(name="rollback", flow_run_name="rollback", validate_parameters=False, persist_result=False)
def rollback(config: SkillstackConfig, to: int | None, reason: str, actor: str) -> LedgerEntry:
    """Move the alias `champion` back. Raises LineageError where there is nothing to go back to, ManifestError where its files changed."""
    return open_house(config).lineage.rollback(to, reason=reason, actor=actor)
