"""What the lineage says, as frozen values: a round being run, a registered version, one line of the ledger, one round of the history."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import Field

from data_contracts.digests import value_digest
from data_contracts.manifests import Record

Stage = Literal["validate", "train", "evaluate", "decide"]
Action = Literal["promote", "rollback", "approve", "reject", "override", "collect", "rebuild"]

MOVES_CHAMPION: frozenset[str] = frozenset({"promote", "rollback", "override"})
FIRST_PRIOR = "0" * 64


class RoundRun(Record):
    """A round that is open: its parent run, and which attempt at this round number it is."""

    run_id: str
    key: str = Field(description="what makes two starts the same round; a killed round that starts again finds itself by it")
    round: int
    skill: str | None
    attempt: int = Field(description="1 for the first try at this skill in this round; deleted runs count")
    judged_before: int = Field(description="earlier attempts that the gate has judged")
    resumed: bool
    finished: bool = Field(description="this very round already ended with a verdict")


class VersionRef(Record):
    """A registered version and where everything about it lies."""

    version: int
    round: int
    skill: str | None
    method: str
    decision: str | None = Field(description="what the gate said; None for the base")
    model_sha256: str
    manifest_sha256: str
    parent_version: int | None = Field(description="the version it was trained from; None for the base")
    checkpoint: Path
    evaluation: Path | None = None
    verdict: Path | None = None
    verdict_sha256: str | None = None
    drop: Path | None = None
    collected: datetime | None = Field(None, description="when its dense weights were deleted; they can be rebuilt")
    run_id: str
    model_id: str


ChampionRef = VersionRef


class LedgerEntry(Record):
    """One decision about the champion. `prior` chains it to the entry before it, so that none can be changed or taken out unseen."""

    sequence: int
    action: Action
    version: int
    previous: int | None = Field(description="the champion before")
    champion: int | None = Field(description="the champion after")
    actor: str
    reason: str
    time: datetime
    decision: str | None = None
    verdict_sha256: str | None = None
    model_sha256: str
    manifest_sha256: str
    expires: datetime | None = Field(None, description="when an approval or override stops being usable")
    prior: str

    @property
    def digest(self) -> str:
        return value_digest(self.model_dump(mode="json"))


class RoundRecord(Record):
    """One attempt at one round, as MLflow holds it."""

    round: int
    skill: str | None
    method: str | None = None
    attempt: int
    version: int | None = None
    status: Literal["running", "failed", "finished", "deleted", "missing"]
    decision: str | None = None
    champion: bool = Field(False, description="it is the champion now")
    was_champion: bool = Field(False, description="it is or once was the champion")
    reasons: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    scores: dict[str, float] = Field(default_factory=dict, description="mean score by suite")
    digests: dict[str, str] = Field(default_factory=dict, description="sha256 by role: drop, model, checkpoint, evaluation, verdict")
    checkpoint: Path | None = None
    evaluation: Path | None = None
    reevaluation: Path | None = Field(None, description="a later report on more suites; the verdict never read it")
    verdict: Path | None = None
    drop: Path | None = None
    parent_version: int | None = None
    collected: datetime | None = Field(None, description="when its dense weights were deleted; they can be rebuilt")
    started: datetime | None = None
    ended: datetime | None = None
    approved_until: datetime | None = Field(None, description="a person's approval that has not been taken back by a later rejection")
    rejected: bool = Field(False, description="a person has rejected it")
    who: str | None = Field(None, description="actor of the last ledger entry on its version")
    why: str | None = Field(None, description="reason of the last ledger entry on its version")
    error: str | None = None
    run_id: str
