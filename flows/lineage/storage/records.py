"""Records of the lineage: an open round, a registered version, an entry of the ledger, an attempt in the history."""

from __future__ import annotations

from collections.abc import Iterable
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
"""Actions that are decisions of a person or the gate; the others only record something."""
FIRST_PRIOR = "0" * 64
_ADDED = frozenset({"authenticated", "facts_sha256", "evidence_sha256", "introduces", "key", "signature"})


class RoundRun(Record):
    """An open round: its parent run, and the number of the attempt."""

    run_id: str
    key: str = Field(description="two starts with the same key are the same round, so a killed round continues its run")
    round: int
    skill: str | None
    attempt: int = Field(description="1 for the first attempt at this skill in this round; deleted runs count")
    resumed: bool
    finished: bool = Field(description="this attempt has already ended with a verdict")
    parent_version: int | None = Field(None, description="the champion that the round was started from; None for the base")


class VersionRef(Record):
    """A registered version and the folders that belong to it."""

    version: int
    round: int
    skill: str | None
    method: str
    decision: str | None = Field(description="verdict; None for the base model")
    model_sha256: str
    manifest_sha256: str
    parent_version: int | None = Field(description="version that it was trained from; None for the base model")
    checkpoint: Path
    evaluation: Path | None = None
    verdict: Path | None = None
    verdict_sha256: str | None = None
    drop: Path | None = None
    drop_file: str = Field("", description="the file that the round was started with, from the project's folder; empty where not recorded")
    heldout_file: str = Field("", description="the same for the file of held-out items; empty where the drop's own rows were carved")
    collected: datetime | None = Field(None, description="when its dense weights were deleted; they can be rebuilt")
    run_id: str
    model_id: str


ChampionRef = VersionRef


class LedgerEntry(Record):
    """One decision about the champion, or the record of a registration and the like.

    `prior` is the digest of the entry before it, so that a changed or removed entry is detected; `signature` proves who wrote it.
    Fields of later releases are left out of the text while they are empty, so that the digest of an older entry does not change.
    """

    sequence: int
    action: Action
    version: int
    previous: int | None = Field(description="champion before this entry")
    champion: int | None = Field(description="champion after this entry")
    actor: str
    reason: str
    time: datetime
    decision: str | None = None
    verdict_sha256: str | None = None
    model_sha256: str
    manifest_sha256: str
    expires: datetime | None = Field(None, description="when an approval expires")
    prior: str
    authenticated: str | None = Field(None, description="user name of the writer at the MLflow server, if it has authentication")
    facts_sha256: str | None = Field(
        None, description="digest of the version's tags that decisions depend on (flows/lineage/storage/facts.py)"
    )
    evidence_sha256: str | None = Field(None, description="for a re-evaluation: digest of its report's manifest")
    introduces: str | None = Field(None, description="public key (PEM) that is trusted from the next entry on")
    key: str | None = Field(None, description="fingerprint of the public key of the signature")
    signature: str | None = Field(None, description="ECDSA P-256 over the text of the entry without this field, base64")

    def values(self) -> dict[str, Any]:
        values = self.model_dump(mode="json")
        return {name: value for name, value in values.items() if value is not None or name not in _ADDED}

    @property
    def text(self) -> str:
        """The text that is stored and chained."""
        return canonical_json(self.values())

    @property
    def unsigned_text(self) -> str:
        """The text that is signed."""
        return canonical_json({name: value for name, value in self.values().items() if name != "signature"})

    @property
    def digest(self) -> str:
        return value_digest(self.values())


def last_word(entries: Iterable[LedgerEntry], version: int) -> LedgerEntry | None:
    """A person's last decision about a version by itself: the approval or rejection that holds; None where nobody has decided."""
    words = [entry for entry in entries if entry.version == version and entry.action in ("approve", "reject")]
    return words[-1] if words else None


@dataclass(frozen=True)
class RegisteredVersion:
    """A version of the registry, and the run of its round (None if that is missing)."""

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
        """Whether the round has ended; until then it may still be registering its version."""
        return self.run is None or self.run.info.status == "FINISHED"


class RoundRecord(Record):
    """One attempt at one round, as recorded in MLflow."""

    round: int
    skill: str | None
    method: str | None = None
    attempt: int
    version: int | None = None
    status: Literal["running", "failed", "finished", "deleted", "missing"]
    decision: str | None = None
    champion: bool = Field(False, description="whether it is the champion now")
    was_champion: bool = Field(False, description="whether it is or was the champion")
    reasons: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    scores: dict[str, float] = Field(default_factory=dict, description="mean score by suite")
    digests: dict[str, str] = Field(default_factory=dict, description="sha256 by role: drop, model, checkpoint, evaluation, verdict")
    checkpoint: Path | None = None
    evaluation: Path | None = None
    reevaluation: Path | None = Field(None, description="a later report on more suites, which the verdict does not depend on")
    verdict: Path | None = None
    drop: Path | None = None
    parent_version: int | None = None
    collected: datetime | None = Field(None, description="when its dense weights were deleted; they can be rebuilt")
    started: datetime | None = None
    ended: datetime | None = None
    approved_until: datetime | None = Field(None, description="expiry of a person's approval, unless a rejection followed")
    rejected: bool = Field(False, description="whether a person has rejected it")
    event: str = Field("", description="last decision about it: promoted, approved, rejected, rolled back, ..., or its status")
    who: str | None = Field(None, description="who made this decision")
    when: datetime | None = Field(None, description="when it was made")
    why: str | None = Field(None, description="the reason given for it")
    error: str | None = None
    run_id: str

    @property
    def seconds(self) -> float | None:
        """From its first start to its end."""
        return (self.ended - self.started).total_seconds() if self.started and self.ended else None
