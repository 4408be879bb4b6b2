"""Decisions of a person on a held version: approval (with reviewer, reason and expiry), rejection, promotion on an approval.

The round has ended by then; no process waits. An approval is for one version against one champion: it ends when it expires, when the
version is rejected, and when another version becomes champion.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from data_contracts.errors import LineageError
from data_contracts.manifests import Decision, Verdict, manifest_digest, read_manifest
from flows.lineage.registry.entries import CLOCK_TOLERANCE, confirmed_champion, promotion_lock, record_note, signed
from flows.lineage.registry.ledger import read_ledger
from flows.lineage.registry.promotion import promote_version
from flows.lineage.registry.versions import find_version
from flows.lineage.storage.connection import Lineage, plainly
from flows.lineage.storage.records import MOVES_CHAMPION, LedgerEntry, VersionRef, last_word

DEFAULT_VALIDITY = timedelta(days=7)


@plainly
def approve_version(
    lineage: Lineage, version: int, *, reviewer: str, reason: str, override: bool = False, valid_for: timedelta = DEFAULT_VALIDITY
) -> LedgerEntry:
    """Record that `reviewer` accepts a held version. A blocked one also needs `override`; one with the verdict ERROR cannot be accepted."""
    with promotion_lock(lineage):
        champion = confirmed_champion(lineage)
        target = find_version(lineage, version)
        if (given := _same_approval(read_ledger(lineage), version, champion, reviewer, reason, valid_for)) is not None:
            return given
        _check_approvable(target, champion, override)
        return record_note(lineage, "approve", target, reason=reason, actor=reviewer, expires=datetime.now(UTC) + valid_for)


@plainly
def reject_version(lineage: Lineage, version: int, *, reviewer: str, reason: str) -> LedgerEntry:
    """Record that `reviewer` refuses a version; this ends an earlier approval."""
    with promotion_lock(lineage):
        target = find_version(lineage, version)
        if confirmed_champion(lineage) == version:
            raise LineageError(f"version {version}", "is the champion", "use `skillstack rollback` instead")
        return record_note(lineage, "reject", target, reason=reason, actor=reviewer)


@plainly
def promote_on_approval(lineage: Lineage, version: int, *, now: datetime | None = None) -> LedgerEntry:
    """Make an approved version champion, with the reviewer's name and reason.

    The ledger records `promote-approved` for a version that the gate held, and `override` for one that it blocked.

    Raises LineageError if there is no approval, if it has expired, or if it was given against another champion.
    """
    entries = read_ledger(lineage)
    approval = _living_approval(entries, version, now or datetime.now(UTC))
    _check_unused(entries, approval)
    verdict = _registered_verdict(find_version(lineage, version))
    return promote_version(
        lineage,
        version,
        expected_champion=approval.champion,
        reason=approval.reason,
        actor=approval.actor,
        verdict=verdict,
        override=verdict.decision is not Decision.PASS,
    )


def _same_approval(
    entries: tuple[LedgerEntry, ...], version: int, champion: int | None, reviewer: str, reason: str, valid_for: timedelta
) -> LedgerEntry | None:
    """The approval that an earlier, interrupted run of this command has recorded, before or after the promotion."""
    own = [entry for entry in entries if entry.version == version]
    given = next((entry for entry in reversed(own) if entry.action == "approve"), None)
    if given is None or given.expires is None or (given.actor, given.reason) != signed(reviewer, reason):
        return None
    later = [entry.action for entry in own if entry.sequence > given.sequence]
    alike = given.champion == champion and abs(given.expires - given.time - valid_for) < timedelta(minutes=1)
    unused = not later and alike and datetime.now(UTC) < given.expires
    return given if unused or (champion == version and later in (["promote-approved"], ["promote"], ["override"])) else None


def _check_approvable(target: VersionRef, champion: int | None, override: bool) -> None:
    where = f"version {target.version}"
    if target.version == champion:
        raise LineageError(where, "is the champion already")
    if target.decision == Decision.ERROR.value or target.decision is None:
        raise LineageError(where, f"has the verdict {target.decision or 'none'}: nothing was measured", "run the round again")
    if target.decision == Decision.BLOCK.value and not override:
        raise LineageError(where, "was blocked by the gate for a proven loss", "to accept it anyway, give --override and the reason")
    if target.parent_version != champion:
        what = f"was trained from and judged against version {target.parent_version}, but version {champion} is champion now"
        raise LineageError(where, what, "run the round again, so that it is judged against the champion")


def _living_approval(entries: tuple[LedgerEntry, ...], version: int, now: datetime) -> LedgerEntry:
    where = f"version {version}"
    word = last_word(entries, version)
    if word is None:
        raise LineageError(where, "is not approved", "skillstack approve VERSION --reviewer NAME --reason ...")
    if word.action == "reject":
        raise LineageError(where, f"was rejected by {word.actor}: {word.reason}", "approve it again if that has changed")
    if word.time > now + CLOCK_TOLERANCE:
        what = f"the approval by {word.actor} is dated {word.time:%Y-%m-%d %H:%M} UTC, which is in the future: a clock is wrong"
        raise LineageError(where, what, "set the clocks, then approve it again")
    expires = word.expires
    if expires is None or not now < expires:
        raise LineageError(where, f"the approval by {word.actor} has expired ({expires:%Y-%m-%d %H:%M} UTC)", "approve it again")
    return word


def _check_unused(entries: tuple[LedgerEntry, ...], approval: LedgerEntry) -> None:
    """An approval promotes once: after a rollback a new one is needed."""
    moves = [entry for entry in entries if entry.action in MOVES_CHAMPION and entry.sequence > approval.sequence]
    if any(entry.champion == approval.version for entry in moves) and moves[-1].champion != approval.version:
        what = f"the approval by {approval.actor} was used, and version {moves[-1].champion} became champion since"
        raise LineageError(f"version {approval.version}", what, "approve it again")


def _registered_verdict(target: VersionRef) -> Verdict:
    """The verdict that the version was registered with, after a check of its files and digest."""
    if target.verdict is None:
        raise LineageError(f"version {target.version}", "has no verdict", "run the round again")
    verdict = read_manifest(target.verdict, Verdict)
    if manifest_digest(verdict) != target.verdict_sha256:
        raise LineageError(str(target.verdict), "is not the verdict that was registered", "restore it from backup")
    return verdict
