"""How a change of the registry is written: under a lock, first as a pending ledger entry, then step by step.

MLflow's aliases have no history and no compare-and-set. So the new entry is first stored in the registered model's tag `pending`; each
step after that (ledger, aliases, copy, chart) may be repeated, and the next process that needs the champion finishes an interrupted change.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from data_contracts.errors import LineageError
from data_contracts.manifests import Verdict, manifest_digest
from flows.lineage.registry.ledger import champion_by_ledger, chart_scores, copy_to_artifact, entries_before, read_ledger, write_entry
from flows.lineage.registry.versions import CHAMPION, PREVIOUS, aliases, find_version
from flows.lineage.storage.connection import PREFIX, Lineage, authenticated_user
from flows.lineage.storage.facts import facts_digest
from flows.lineage.storage.records import FIRST_PRIOR, MOVES_CHAMPION, Action, LedgerEntry, VersionRef
from flows.lineage.storage.signing import require_signed, sign_entry

PENDING_TAG = PREFIX + "pending"
CLOCK_TOLERANCE = timedelta(minutes=2)
_LOCK_SECONDS = 120.0
_MAX_REASON = 1000  # a tag of a registered model holds 5000 characters on PostgreSQL


@contextmanager
def promotion_lock(lineage: Lineage) -> Iterator[None]:
    """One change at a time among the processes that share the state directory. The operating system releases it when its holder dies."""
    from filelock import FileLock, Timeout

    path = lineage.state_dir / f"{lineage.model_name}.promotion.lock"
    try:
        with FileLock(path, timeout=_LOCK_SECONDS):
            yield
    except Timeout as error:
        raise LineageError(str(path), f"another process has held it for {_LOCK_SECONDS:.0f} s", "wait for it, or stop it") from error


def confirmed_champion(lineage: Lineage) -> int | None:
    """The champion, after finishing any interrupted change. The caller holds the lock."""
    finish_pending(lineage)
    return check_alias(lineage, read_ledger(lineage))


def check_alias(lineage: Lineage, entries: tuple[LedgerEntry, ...]) -> int | None:
    alias, recorded = aliases(lineage).get(CHAMPION), champion_by_ledger(entries)
    if alias != recorded:
        what = f"points to {name_of(alias)}, but according to the ledger {name_of(recorded)} is champion: it was moved by hand"
        way_out = "set it with `skillstack rollback --to VERSION --reason ...`, which the ledger records"
        raise LineageError(f"alias {CHAMPION} of {lineage.model_name}", what, way_out)
    return alias


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
    """Record an action that does not change the champion (approve, reject, collect, rebuild, ...). The caller holds the lock.

    The same decision as the version's last one is not written again: the command was interrupted after it and is repeated.
    """
    champion = confirmed_champion(lineage)
    entries = read_ledger(lineage)
    last = next((entry for entry in reversed(entries) if entry.version == target.version), None)
    said = (action, *signed(actor, reason), evidence_sha256)
    if last is not None and expires is None and (last.action, last.actor, last.reason, last.evidence_sha256) == said:
        return last
    entry = new_entry(entries, action, target, champion, champion, reason, actor, None, expires)
    return carry_out(lineage, entry.model_copy(update={"evidence_sha256": evidence_sha256}))


def signed(actor: str, reason: str) -> tuple[str, str]:
    """Actor and reason as an entry stores them."""
    return actor.strip()[:200], reason.strip()[:_MAX_REASON]


def new_entry(
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
    """The time of a new entry: now, but not before the last entry. Clocks may differ by seconds; with more a promotion is refused.

    A person's decision is recorded in any case (`verify` reports it), so that one entry from a clock in the future cannot block the ledger.
    Registrations get the time of the entry before: they must not make a wrong clock look right to the promotion that follows.
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


def carry_out(lineage: Lineage, entry: LedgerEntry) -> LedgerEntry:
    """Complete an entry (digest of the version's tags, authenticated user, signature), store it as pending, and carry it out."""
    raw = lineage.client.get_model_version(lineage.model_name, str(entry.version))
    known = {"facts_sha256": entry.facts_sha256 or facts_digest(raw.tags), "authenticated": authenticated_user(lineage.tracking_uri)}
    complete = sign_entry(lineage.keys, entry.model_copy(update=known))
    lineage.client.set_registered_model_tag(lineage.model_name, PENDING_TAG, complete.text)
    finish_pending(lineage)
    return complete


def finish_pending(lineage: Lineage) -> None:
    """Carry out the pending entry, if there is one. Each step may be repeated."""
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


def name_of(version: int | None) -> str:
    return "no version" if version is None else f"version {version}"
