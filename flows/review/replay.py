"""Recompute a past verdict from the stored items and compare it, byte for byte, with the recorded one."""

from __future__ import annotations

from pydantic import Field

from data_contracts.errors import LineageError
from data_contracts.manifests import Record, Verdict, manifest_digest, read_manifest
from flows.lineage import RoundRecord, read_history
from flows.lineage.registry.replaying import recompute
from flows.workspace.round_page import same_answers
from flows.workspace.workspace import Workspace


class Replay(Record):
    round: int
    attempt: int
    version: int
    decision: str
    stored_sha256: str
    recomputed_sha256: str
    answers: bool | None = Field(None, description="whether the answers stored with it are those of the items; None: none were stored")

    @property
    def equal(self) -> bool:
        return self.stored_sha256 == self.recomputed_sha256 and self.answers is not False


def replay_round(workspace: Workspace, number: int, attempt: int | None = None) -> Replay:
    """Replay the newest attempt at a round that has a verdict, or the given attempt.

    Raises LineageError if there is none, EvaluationError or ManifestError if items changed.
    """
    record = _decided(workspace, number, attempt)
    if record.verdict is None or record.version is None:
        raise LineageError(f"round {number}", "has no stored verdict", "see `skillstack history`")
    stored = read_manifest(record.verdict, Verdict)
    again = recompute(workspace.config.state_dir, record.verdict)
    return Replay(
        round=number,
        attempt=record.attempt,
        version=record.version,
        decision=again.decision.value,
        stored_sha256=manifest_digest(stored),
        recomputed_sha256=manifest_digest(again),
        answers=same_answers(workspace, record.verdict, stored),
    )


def _decided(workspace: Workspace, number: int, attempt: int | None) -> RoundRecord:
    decided = [record for record in read_history(workspace.lineage) if record.decision is not None and record.verdict is not None]
    records = [record for record in decided if record.round == number and attempt in (None, record.attempt)]
    if records:
        return records[-1]
    if attempt is None:
        known = ", ".join(map(str, sorted({record.round for record in decided})))
        raise LineageError(f"round {number}", "has no verdict", f"rounds with a verdict: {known or 'none'}")
    known = ", ".join(str(record.attempt) for record in decided if record.round == number)
    raise LineageError(f"round {number}, attempt {attempt}", "has no verdict", f"attempts with a verdict: {known or 'none'}")
