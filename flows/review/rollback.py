"""Rollback as its own flow: an earlier champion becomes champion again after its files were verified; the ledger says who and why."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from pydantic import Field

from flows.config.parameters import ConfigParameter, Person, Reason, named
from flows.lineage import LedgerEntry, roll_back
from flows.workspace.workspace import open_workspace

Target = Annotated[int | None, Field(description="version to go back to; null: the champion before this one")]


def _name_of_rollback() -> str:
    return named("rollback")


@flow(name="rollback", flow_run_name=_name_of_rollback, persist_result=False)
def rollback(config: ConfigParameter, reason: Reason, actor: Person, to: Target = None) -> LedgerEntry:
    """Move the alias `champion` back. Raises LineageError where there is nothing to go back to, ManifestError where its files changed."""
    return roll_back(open_workspace(config).lineage, to, reason=reason, actor=actor)
