"""Who is champion: changed under a lock, compared with what was judged, written to the ledger before the alias moves.

MLflow's aliases have no history and no compare-and-set. So the new ledger entry is first written to the registered model as `pending`, then
every step that follows (ledger, aliases) can be repeated: a promotion that was cut off anywhere is finished by whoever comes next.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from data_contracts.errors import LineageError
from data_contracts.manifests import Decision, Verdict, manifest_digest
from flows.lineage.registry.ledger import champion_by_ledger, chart_scores, copy_to_artifact, entries_before, read_ledger, write_entry
from flows.lineage.registry.replaying import confirm_verdict
from flows.lineage.registry.versions import CHAMPION, PREVIOUS, aliases, find_version, raw_versions, verify_reference
from flows.lineage.storage.connection import PREFIX, Lineage, authenticated_user, plainly
from flows.lineage.storage.facts import all_facts_digest, facts_digest
from flows.lineage.storage.records import FIRST_PRIOR, MOVES_CHAMPION, Action, LedgerEntry, VersionRef
from flows.lineage.storage.signing import KEY_VARIABLE, public_pem, read_public, require_signed, sign_entry

PENDING_TAG = PREFIX + "pending"
_LOCK_SECONDS = 120.0
CLOCK_TOLERANCE = timedelta(minutes=2)
_MAX_REASON = 1000  # a tag of a registered model holds 5000 characters on PostgreSQL


@contextmanager
def promotion_lock(lineage: Lineage) -> Iterator[None]:
    """One promoter at a time among the processes that share the state directory. The operating system frees it when its holder dies."""
    from filelock import FileLock, Timeout

    path = lineage.state_dir / f"{lineage.model_name}.promotion.lock"
    try:
        with FileLock(path, timeout=_LOCK_SECONDS):
            yield
    except Timeout as error:
        raise LineageError(str(path), f"another process has held it for {_LOCK_SECONDS:.0f} s", "wait for it, or end it") from error


def champion_number(lineage: Lineage) -> int | None:
    """The champion's version. Raises LineageError where the alias is not where the ledger says."""
    if PENDING_TAG in lineage.client.get_registered_model(lineage.model_name).tags:
        with promotion_lock(lineage):
            return confirmed_champion(lineage)
    return _check_alias(lineage, read_ledger(lineage))


@plainly
def current_champion(lineage: Lineage, *, verify: bool = True) -> VersionRef | None:
    """The version that serves, or None before the first promotion. Its files are verified unless `verify` is false.

    Raises LineageError where the alias is not where the ledger says (moved by hand)."""
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
    """Make `version` the champion if the champion still is the one it was judged against. Raises LineageError where it is not.

    The base (no verdict) may only become the first champion. Anything but PASS needs `override`: a person's word, which the ledger records
    as `promote-approved` for a version that was held and as `override` for one that was blocked. The verdict is recomputed from the stored
    items first: what the gate did not say, promotes nothing.
    """
    with promotion_lock(lineage):
        champion = confirmed_champion(lineage)
        entries = read_ledger(lineage)
        if champion == version:  # a killed round that comes again
            return next(entry for entry in reversed(entries) if entry.champion == version and entry.action in MOVES_CHAMPION)
        target = find_version(lineage, version)
        _check_allowed(target, verdict, champion, override)
        if champion != expected_champion:
            what = f"was judged against {_name(expected_champion)}, but {_name(champion)} is champion now"
            raise LineageError(f"version {version}", what, "run the round again, so that it is judged against the champion")
        verify_reference(target)
        if verdict is not None:
            confirm_verdict(lineage, target, verdict)
        return _move(lineage, entries, _promotion(verdict), target, champion, reason, actor, verdict)


@plainly
def roll_back(lineage: Lineage, to: int | None = None, *, reason: str, actor: str) -> LedgerEntry:
    """Make an earlier champion the champion again (None: the one that the present one first replaced), after its files are verified.

    It also puts right an alias that was moved by hand.
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
    """The ledger's last entry where it is this very rollback: the command was cut off after it and runs again, or was typed twice.

    Its target must not be computed anew, which would go back one champion further. A further step back has a reason of its own.
    """
    last = entries[-1] if entries else None
    if last is None or last.action != "rollback" or aliases(lineage).get(CHAMPION) != last.champion:
        return None
    return last if (last.actor, last.reason) == signed(actor, reason) and to in (None, last.champion) else None


def record_note(
    lineage: Lineage,
    action: Action,
    target: VersionRef,
    *,
    reason: str,
    actor: str,
    expires: datetime | None = None,
    evidence_sha256: str | None = None,
) -> LedgerEntry:
    """Record what leaves the champion where it is (approve, reject, collect, rebuild, ...). The caller holds the lock.

    The same decision as the version's last one is not written a second time: the command was cut off after it and runs again.
    """
    champion = confirmed_champion(lineage)
    entries = read_ledger(lineage)
    last = next((entry for entry in reversed(entries) if entry.version == target.version), None)
    said = (action, *signed(actor, reason), evidence_sha256)
    if last is not None and expires is None and (last.action, last.actor, last.reason, last.evidence_sha256) == said:
        return last
    entry = _entry(entries, action, target, champion, champion, reason, actor, None, expires)
    return _carry_out(lineage, entry.model_copy(update={"evidence_sha256": evidence_sha256}))


@plainly
def introduce_key(lineage: Lineage, public_key: Path, *, reason: str, actor: str) -> LedgerEntry:
    """Record a public key, signed by the present one. The entry holds the digest of all versions' facts: it covers those that are older
    than any signature too."""
    key = read_public(public_key)
    if lineage.keys.private is None:
        way_out = f"name the present private key in {KEY_VARIABLE} or signing.private_key"
        raise LineageError("ledger", "a key is introduced by the key before it, and this machine has none", way_out)
    with promotion_lock(lineage):
        champion = confirmed_champion(lineage)
        versions = raw_versions(lineage)
        if not versions:
            raise LineageError("ledger", "has no version yet, so there is nothing to sign", "run a round first")
        newest = find_version(lineage, int(versions[-1].version))
        entry = _entry(read_ledger(lineage), "key", newest, champion, champion, reason, actor, None, None)
        added = {"introduces": public_pem(key), "facts_sha256": all_facts_digest(versions)}
        return _carry_out(lineage, entry.model_copy(update=added))


def signed(actor: str, reason: str) -> tuple[str, str]:
    """Who and why, as an entry keeps them."""
    return actor.strip()[:200], reason.strip()[:_MAX_REASON]


def _check_allowed(target: VersionRef, verdict: Verdict | None, champion: int | None, override: bool) -> None:
    where = f"version {target.version}"
    if verdict is None:
        if target.method != "base" or champion is not None:
            raise LineageError(where, "has no verdict", "only the base model becomes champion without one, and only as the first")
        return
    if verdict.candidate_sha256 != target.model_sha256:
        raise LineageError(where, "the verdict is about another model", "decide on this candidate first")
    if verdict.decision is not Decision.PASS and not override:
        raise LineageError(
            where, f"its verdict is {verdict.decision.value}, not PASS", "a person may override it with a reviewer and a reason"
        )


def _promotion(verdict: Verdict | None) -> Action:
    if verdict is None or verdict.decision is Decision.PASS:
        return "promote"
    return "promote-approved" if verdict.decision is Decision.INCONCLUSIVE else "override"


def confirmed_champion(lineage: Lineage) -> int | None:
    """The champion, after any promotion that was cut off is finished. The caller holds the lock."""
    finish_pending(lineage)
    return _check_alias(lineage, read_ledger(lineage))


def _check_alias(lineage: Lineage, entries: tuple[LedgerEntry, ...]) -> int | None:
    alias, recorded = aliases(lineage).get(CHAMPION), champion_by_ledger(entries)
    if alias != recorded:
        what = f"points to {_name(alias)}, but by the ledger {_name(recorded)} is champion: it was moved by hand"
        way_out = "put it right, on record, with `skillstack rollback --to VERSION --reason ...`"
        raise LineageError(f"alias {CHAMPION} of {lineage.model_name}", what, way_out)
    return alias


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
    return _carry_out(lineage, _entry(entries, action, target, champion, target.version, reason, actor, verdict, None))


def _entry(
    entries: tuple[LedgerEntry, ...],
    action: Action,
    target: VersionRef,
    before: int | None,
    after: int | None,
    reason: str,
    actor: str,
    verdict: Verdict | None,
    expires: datetime | None,
) -> LedgerEntry:
    for name, value in (("reason", reason), ("actor", actor)):
        if not value.strip():
            raise LineageError(action, f"needs a {name}", f"give --{name}")
    who, why = signed(actor, reason)
    return LedgerEntry(
        sequence=len(entries),
        action=action,
        version=target.version,
        previous=before,
        champion=after,
        actor=who,
        reason=why,
        time=_time_after(entries, action),
        decision=verdict.decision.value if verdict is not None else target.decision,
        verdict_sha256=manifest_digest(verdict) if verdict is not None else None,
        model_sha256=target.model_sha256,
        manifest_sha256=target.manifest_sha256,
        expires=expires,
        prior=entries[-1].digest if entries else FIRST_PRIOR,
    )


def _time_after(entries: tuple[LedgerEntry, ...], action: Action) -> datetime:
    """Now, and not before the last entry: a few seconds' difference between machines is no reason to stop, a wrong clock is.

    A person's decision goes through all the same (`verify` names it), so that one entry from a clock in the future cannot block the ledger.
    Book-keeping is dated like the entry before it: it must not make a wrong clock look right to the promotion that follows.
    """
    now = datetime.now(UTC)
    if not entries or now >= entries[-1].time:
        return now
    if entries[-1].time - now <= CLOCK_TOLERANCE or action in ("register", "reevaluate"):
        return entries[-1].time
    if action == "promote":
        what = f"says {now:%Y-%m-%d %H:%M:%S} UTC, before the ledger's last entry ({entries[-1].time:%Y-%m-%d %H:%M:%S} UTC)"
        raise LineageError("this machine's clock", what, "set the clocks, then run the round again: its version stays registered")
    return now


def _carry_out(lineage: Lineage, entry: LedgerEntry) -> LedgerEntry:
    """Add what only this writer knows (the version's facts as they are now, who it is to the server, its signature), then do it."""
    raw = lineage.client.get_model_version(lineage.model_name, str(entry.version))
    known = {"facts_sha256": entry.facts_sha256 or facts_digest(raw.tags), "authenticated": authenticated_user(lineage.tracking_uri)}
    complete = sign_entry(lineage.keys, entry.model_copy(update=known))
    lineage.client.set_registered_model_tag(lineage.model_name, PENDING_TAG, complete.text)
    finish_pending(lineage)
    return complete


def finish_pending(lineage: Lineage) -> None:
    """Do, or do again, every step of the entry that is pending. Each step may be repeated."""
    text = lineage.client.get_registered_model(lineage.model_name).tags.get(PENDING_TAG)
    if text is None:
        return
    entry = LedgerEntry.model_validate_json(text)
    if lineage.keys.required:
        require_signed(lineage.keys, [*entries_before(lineage, entry.sequence), entry])
    write_entry(lineage, entry)
    if entry.action in MOVES_CHAMPION:
        if entry.previous not in (None, entry.champion):
            lineage.client.set_registered_model_alias(lineage.model_name, PREVIOUS, str(entry.previous))
        lineage.client.set_registered_model_alias(lineage.model_name, CHAMPION, str(entry.champion))
    copy_to_artifact(lineage, read_ledger(lineage))
    if entry.action in MOVES_CHAMPION and entry.action != "rollback":
        chart_scores(lineage, find_version(lineage, entry.version), entry.time)
    lineage.client.delete_registered_model_tag(lineage.model_name, PENDING_TAG)


def _name(version: int | None) -> str:
    return "no version" if version is None else f"version {version}"
