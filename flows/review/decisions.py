"""What a person decides about a version, as flows: approve, reject, roll back.

They are flows of their own because the round has ended by then and holds neither a GPU nor a concurrency slot.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from prefect import flow
from pydantic import Field

from flows.config.parameters import ConfigParameter, Person, Reason, Version, named
from flows.lineage import (
    LedgerEntry,
    approve_version,
    find_version,
    promote_on_approval,
    reject_version,
    roll_back,
    write_card,
)
from flows.workspace.round_page import decided_again
from flows.workspace.workspace import Workspace, open_workspace

Days = Annotated[float, Field(gt=0.0, description="days until the approval expires")]
Target = Annotated[int | None, Field(description="version to return to; null: the previous champion")]


@flow(name="promote", flow_run_name=named("approve"), persist_result=False)
def promote(
    config: ConfigParameter,
    version: Version,
    reviewer: Person,
    reason: Reason,
    override: bool = False,
    days: Days = 7.0,
    at_once: bool = True,
) -> LedgerEntry:
    """Record the approval and make the version champion. Raises LineageError if it may not become champion.

    With `at_once=False` the approval is only recorded; `promote_approved` uses it before it expires.
    """
    workspace = open_workspace(config)
    valid_for = timedelta(days=days)
    approval = approve_version(workspace.lineage, version, reviewer=reviewer, reason=reason, override=override, valid_for=valid_for)
    return _promoted(workspace, version) if at_once else _shown(workspace, approval)


@flow(name="promote-approved", flow_run_name=named("promote"), persist_result=False)
def promote_approved(config: ConfigParameter, version: Version) -> LedgerEntry:
    """Make a version champion on an approval that was recorded before and has not expired."""
    return _promoted(open_workspace(config), version)


def _promoted(workspace: Workspace, version: int) -> LedgerEntry:
    """Promote on the approval, and write the page and the model card that name it."""
    lineage = workspace.lineage
    entry = promote_on_approval(lineage, version)
    write_card(lineage, version, find_version(lineage, version).checkpoint / "model")
    return _shown(workspace, entry)


def _shown(workspace: Workspace, entry: LedgerEntry) -> LedgerEntry:
    """The entry, after the pages of its versions were written again with it."""
    decided_again(workspace, entry)
    return entry


@flow(name="reject", flow_run_name=named("reject"), persist_result=False)
def reject(config: ConfigParameter, version: Version, reviewer: Person, reason: Reason) -> LedgerEntry:
    """Record that a held version is refused. The champion does not change."""
    workspace = open_workspace(config)
    return _shown(workspace, reject_version(workspace.lineage, version, reviewer=reviewer, reason=reason))


@flow(name="rollback", flow_run_name=named("rollback"), persist_result=False)
def rollback(config: ConfigParameter, reason: Reason, actor: Person, to: Target = None) -> LedgerEntry:
    """Make an earlier champion the champion again, after its files were verified.

    Raises LineageError if there is no earlier champion, ManifestError if its files changed.
    """
    workspace = open_workspace(config)
    return _shown(workspace, roll_back(workspace.lineage, to, reason=reason, actor=actor))
