"""The champion: reading it, promotion and rollback, each checked against the ledger; and the introduction of a signing key."""

from __future__ import annotations

from pathlib import Path

from data_contracts.errors import LineageError
from data_contracts.manifests import Decision, Verdict
from flows.lineage.registry.entries import (
    PENDING_TAG,
    carry_out,
    check_alias,
    confirmed_champion,
    finish_pending,
    name_of,
    new_entry,
    promotion_lock,
    signed,
)
from flows.lineage.registry.ledger import champion_by_ledger, read_ledger
from flows.lineage.registry.replaying import confirm_verdict
from flows.lineage.registry.versions import CHAMPION, aliases, find_version, raw_versions, verify_reference
from flows.lineage.storage.connection import Lineage, plainly
from flows.lineage.storage.facts import all_facts_digest
from flows.lineage.storage.records import MOVES_CHAMPION, Action, LedgerEntry, VersionRef, last_word
from flows.lineage.storage.signing import KEY_VARIABLE, public_pem, read_public


def champion_number(lineage: Lineage) -> int | None:
    """The champion's version. Raises LineageError if alias and ledger disagree."""
    if PENDING_TAG in lineage.client.get_registered_model(lineage.model_name).tags:
        with promotion_lock(lineage):
            return confirmed_champion(lineage)
    return check_alias(lineage, read_ledger(lineage))


@plainly
def current_champion(lineage: Lineage, *, verify: bool = True) -> VersionRef | None:
    """The champion, or None before the first promotion. Its files are verified unless `verify` is false.

    Raises LineageError if alias and ledger disagree (the alias was moved by hand)."""
    number = champion_number(lineage)
    return None if number is None else find_version(lineage, number, verify=verify)


@plainly
def promote_version(
    lineage: Lineage,
    version: int,
    *,
    expected_champion: int | None,
    reason: str,
    actor: str,
    verdict: Verdict | None,
    override: bool = False,
) -> LedgerEntry:
    """Make `version` the champion. Raises LineageError if the present champion is not the one that the version was judged against.

    The base model (no verdict) can only be the first champion. Any verdict but PASS needs `override`, a person's decision: the ledger
    records it as `promote-approved` for a held version and as `override` for a blocked one. The verdict is first recomputed from the
    stored items, so that an edited verdict cannot promote a version.
    """
    with promotion_lock(lineage):
        champion = confirmed_champion(lineage)
        entries = read_ledger(lineage)
        if champion == version:  # a killed round that is repeated
            return next(entry for entry in reversed(entries) if entry.champion == version and entry.action in MOVES_CHAMPION)
        target = find_version(lineage, version)
        _check_allowed(target, verdict, champion, override)
        _check_not_rejected(entries, version)
        if champion != expected_champion:
            what = f"was judged against {name_of(expected_champion)}, but {name_of(champion)} is champion now"
            raise LineageError(f"version {version}", what, "run the round again, so that it is judged against the champion")
        verify_reference(target)
        if verdict is not None:
            confirm_verdict(lineage, target, verdict)
        return _move(lineage, entries, _promotion(verdict), target, champion, reason, actor, verdict)


def _check_allowed(target: VersionRef, verdict: Verdict | None, champion: int | None, override: bool) -> None:
    where = f"version {target.version}"
    if verdict is None:
        if target.method != "base" or champion is not None:
            raise LineageError(where, "has no verdict", "only the base model may be champion without one, and only as the first")
        return
    if verdict.candidate_sha256 != target.model_sha256:
        raise LineageError(where, "the verdict is about another model", "promote it with its own verdict")
    if verdict.decision is not Decision.PASS and not override:
        raise LineageError(
            where, f"its verdict is {verdict.decision.value}, not PASS", "a person may override it with a reviewer and a reason"
        )


def _check_not_rejected(entries: tuple[LedgerEntry, ...], version: int) -> None:
    """A round that was cut off before its promotion may have been rejected meanwhile: then its PASS does not promote by itself."""
    word = last_word(entries, version)
    if word is not None and word.action == "reject":
        said = f"was rejected by {word.actor}: {word.reason}"
        raise LineageError(
            f"version {version}", said, f"to promote it nevertheless: skillstack approve {version} --reviewer NAME --reason ..."
        )


def _promotion(verdict: Verdict | None) -> Action:
    if verdict is None or verdict.decision is Decision.PASS:
        return "promote"
    return "promote-approved" if verdict.decision is Decision.INCONCLUSIVE else "override"


@plainly
def roll_back(lineage: Lineage, to: int | None = None, *, reason: str, actor: str) -> LedgerEntry:
    """Verify an earlier champion and make it the champion again (None: the one that the present one replaced).

    This also corrects an alias that was moved by hand.
    """
    with promotion_lock(lineage):
        finish_pending(lineage)
        entries = read_ledger(lineage)
        champion = champion_by_ledger(entries)
        if (done := _same_rollback(lineage, entries, to, reason, actor)) is not None:
            return done
        once = [entry.champion for entry in entries if entry.action in MOVES_CHAMPION]
        if to is None:
            to = next((entry.previous for entry in entries if entry.champion == champion and entry.action in MOVES_CHAMPION), None)
        if to is None:
            raise LineageError("rollback", "there is no earlier champion", "name a version with --to")
        if to not in once:
            raise LineageError(f"version {to}", "was never champion", f"earlier champions are {sorted({v for v in once if v is not None})}")
        target = find_version(lineage, to)
        verify_reference(target)
        return _move(lineage, entries, "rollback", target, champion, reason, actor, None)


def _same_rollback(lineage: Lineage, entries: tuple[LedgerEntry, ...], to: int | None, reason: str, actor: str) -> LedgerEntry | None:
    """The ledger's last entry if it is this rollback: the command was interrupted after it and is repeated, or was given twice.

    Its target must not be computed again, which would go back one champion further. A further step back needs another reason.
    """
    last = entries[-1] if entries else None
    if last is None or last.action != "rollback" or aliases(lineage).get(CHAMPION) != last.champion:
        return None
    return last if (last.actor, last.reason) == signed(actor, reason) and to in (None, last.champion) else None


@plainly
def introduce_key(lineage: Lineage, public_key: Path, *, reason: str, actor: str) -> LedgerEntry:
    """Record a new public key, signed with the present one. The entry has the digest of all versions' tags, so it also covers versions
    that are older than the first signature."""
    key = read_public(public_key)
    if lineage.keys.private is None:
        way_out = f"name the present private key in {KEY_VARIABLE} or signing.private_key"
        raise LineageError("ledger", "a new key must be signed with the present private key, which this machine does not have", way_out)
    with promotion_lock(lineage):
        champion = confirmed_champion(lineage)
        versions = raw_versions(lineage)
        if not versions:
            raise LineageError("ledger", "has no version yet, so there is nothing to sign", "run a round first")
        newest = find_version(lineage, int(versions[-1].version))
        entry = new_entry(read_ledger(lineage), "key", newest, champion, champion, reason, actor, None, None)
        added = {"introduces": public_pem(key), "facts_sha256": all_facts_digest(versions)}
        return carry_out(lineage, entry.model_copy(update=added))


def _move(
    lineage: Lineage,
    entries: tuple[LedgerEntry, ...],
    action: Action,
    target: VersionRef,
    champion: int | None,
    reason: str,
    actor: str,
    verdict: Verdict | None,
) -> LedgerEntry:
    return carry_out(lineage, new_entry(entries, action, target, champion, target.version, reason, actor, verdict, None))
