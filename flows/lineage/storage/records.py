"""What the lineage says, as frozen values: a round being run, a registered version, one line of the ledger, one round of the history."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from data_contracts.digests import canonical_json, value_digest
from data_contracts.manifests import Record

Stage = Literal["validate", "train", "evaluate", "decide"]
Action = Literal[
    "register", "promote", "promote-approved", "override", "rollback", "approve", "reject", "reevaluate", "collect", "rebuild", "key"
]

MOVES_CHAMPION: frozenset[str] = frozenset({"promote", "promote-approved", "override", "rollback"})
DECISIONS: frozenset[str] = MOVES_CHAMPION | {"approve", "reject"}
"""Actions that a person or the gate decided; the others keep the books."""
FIRST_PRIOR = "0" * 64
_ADDED = frozenset({"authenticated", "facts_sha256", "evidence_sha256", "introduces", "key", "signature"})


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
    parent_version: int | None = Field(None, description="the champion that the round was started from; None for the base")


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
    """One decision about the champion, or one record of what was registered.

    `prior` chains it to the entry before it, so that none can be changed or taken out unseen; `signature` says who could have written it.
    Fields that a later release brought are left out of the text while they are empty: the digest of an older entry stays what it was.
    """

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
    authenticated: str | None = Field(None, description="user that the MLflow server knew the writer as, where it has authentication")
    facts_sha256: str | None = Field(
        None, description="digest of every tag of the version that a decision reads (flows/lineage/storage/facts.py)"
    )
    evidence_sha256: str | None = Field(None, description="of a re-evaluation: digest of its report's manifest")
    introduces: str | None = Field(None, description="public key (PEM) that may sign from the next entry on")
    key: str | None = Field(None, description="fingerprint of the public key that checks the signature")
    signature: str | None = Field(None, description="ECDSA P-256 over the text of the entry without this field, base64")

    def values(self) -> dict[str, Any]:
        values = self.model_dump(mode="json")
        return {name: value for name, value in values.items() if value is not None or name not in _ADDED}

    @property
    def text(self) -> str:
        """The bytes that are stored and chained."""
        return canonical_json(self.values())

    @property
    def unsigned_text(self) -> str:
        """The bytes that are signed."""
        return canonical_json({name: value for name, value in self.values().items() if name != "signature"})

    @property
    def digest(self) -> str:
        return value_digest(self.values())


@dataclass(frozen=True)
class RegisteredVersion:
    """A version as the registry holds it, and the run of its round (None where that is gone)."""

    raw: Any
    run: Any

    @property
    def tags(self) -> dict[str, str]:
        return dict(self.raw.tags)

    def fact(self, name: str) -> str | None:
        return self.tags.get("skillstack." + name) or None

    @property
    def round(self) -> int | None:
        return int(text) if (text := self.fact("round")) else None

    @property
    def ended(self) -> bool:
        """A round that is not over may still be registering its version."""
        return self.run is None or self.run.info.status == "FINISHED"


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
    event: str = Field("", description="what became of it last: promoted, approved, rejected, rolled back, ..., or its status")
    who: str | None = Field(None, description="who decided that event")
    when: datetime | None = Field(None, description="when that event was decided")
    why: str | None = Field(None, description="why, in the words of whoever decided that event")
    error: str | None = None
    run_id: str
