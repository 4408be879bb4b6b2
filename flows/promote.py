"""A person's decision on a held round, as flows of their own: the round has ended by then and holds neither a GPU nor a slot."""

from __future__ import annotations

from datetime import timedelta

from prefect import flow

from flows.house import open_house
from flows.lineage import LedgerEntry
from flows.settings import SkillstackConfig


@flow(name="promote", flow_run_name="approve version {version}", validate_parameters=False, persist_result=False)
def promote(
    config: SkillstackConfig,
    version: int,
    reviewer: str,
    reason: str,
    override: bool = False,
    valid_for: timedelta = timedelta(days=7),
    at_once: bool = True,
) -> LedgerEntry:
    """Record the approval and, unless told to wait, make the version champion. Raises LineageError where it may not become champion.

    With `at_once=False` the approval is only recorded; `promote_approved` uses it before it expires.
    """
    lineage = open_house(config).lineage
    approval = lineage.approve(version, reviewer=reviewer, reason=reason, override=override, valid_for=valid_for)
    return lineage.promote_approved(version) if at_once else approval


@flow(name="promote-approved", flow_run_name="promote version {version}", validate_parameters=False, persist_result=False)
def promote_approved(config: SkillstackConfig, version: int) -> LedgerEntry:
    """Make a version champion on an approval that was recorded before and has not expired."""
    return open_house(config).lineage.promote_approved(version)


@flow(name="reject", flow_run_name="reject version {version}", validate_parameters=False, persist_result=False)
def reject(config: SkillstackConfig, version: int, reviewer: str, reason: str) -> LedgerEntry:
    """Record that a held version is refused. The champion stays."""
    return open_house(config).lineage.reject(version, reviewer=reviewer, reason=reason)
