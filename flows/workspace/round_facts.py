"""What the page of a round says besides its verdict: dates, drop, schedule, cost, decisions; read from the lineage and the manifests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from data_contracts.errors import ManifestError
from data_contracts.manifests import CheckpointManifest, DropManifest, EvalReport, M, TrainingSummary, read_manifest
from evals.numbers import duration
from evals.report.facts import Difference, Event, RoundCost, RoundFacts, count, moment, schedule_words, setting_differences
from flows.lineage import LedgerEntry, RoundRecord, read_ancestry
from flows.lineage.card import original_base
from flows.lineage.registry.history import actor_of, read_lineage
from flows.lineage.storage.describe import training_curve
from flows.lineage.storage.records import DECISIONS
from flows.workspace.workspace import Workspace


def read_facts(workspace: Workspace, version: int) -> RoundFacts:
    """The facts of a registered version, and of the attempts up to it. Nothing is computed."""
    records, ledger = read_lineage(workspace.lineage)
    mine = next(record for record in records if record.version == version)
    parent = next((record for record in records if record.version is not None and record.version == mine.parent_version), None)
    upto = [record for record in records if record.version is not None and record.version <= version]
    made = read_checkpoint(mine)
    return RoundFacts(
        version=version,
        rows=tuple(_rows(workspace, mine, parent, made)),
        loss=tuple((step, value) for name, step, value in training_curve(mine.checkpoint) if name == "loss") if mine.checkpoint else (),
        settled=made.summary.settled if made is not None and made.summary is not None else None,
        since=_name(parent) if parent is not None and parent.skill is not None else "",
        differences=_differences(mine, parent, made),
        events=events_of(ledger, version),
        rounds=tuple(round_costs(upto)),
    )


def events_of(ledger: Sequence[LedgerEntry], version: int | None = None) -> tuple[Event, ...]:
    """The decisions of the ledger, or those about one version and the rollback that replaced it, oldest first."""
    chosen = [entry for entry in ledger if entry.action in DECISIONS]
    if version is not None:
        chosen = [entry for entry in chosen if entry.version == version or (entry.action == "rollback" and entry.previous == version)]
    by_person = DECISIONS - {"promote"}
    return tuple(
        Event(entry.time, event_words(entry), entry.version, actor_of(entry), entry.reason, person=entry.action in by_person)
        for entry in chosen
    )


def event_words(entry: LedgerEntry) -> str:
    """The action of an entry, with the verdict of its version if it is a decision; of a rollback, the version that it took away."""
    if entry.action == "rollback":
        return f"rollback from version {entry.previous}"
    return f"{entry.action} (verdict {entry.decision})" if entry.decision and entry.action in DECISIONS else entry.action


def round_costs(records: Sequence[RoundRecord]) -> Iterator[RoundCost]:
    """What each attempt took and how it ended; the base model trains nothing and is left out."""
    for record in records:
        if record.skill is None:
            continue
        made = read_checkpoint(record)
        summary = made.summary if made is not None else None
        yield RoundCost(
            number=record.round,
            attempt=record.attempt,
            skill=record.skill,
            version=record.version,
            decision=record.decision or "–",
            event=record.event or record.status,
            who=record.who or "–",
            when=record.when,
            seconds=record.seconds,
            training=summary.seconds if summary is not None else None,
            tokens=trained_tokens(summary) if summary is not None else None,
            device=summary.device if summary is not None else "",
        )


def trained_tokens(summary: TrainingSummary) -> int:
    """Tokens that a training read, repeated ones as often as they were read."""
    return round(summary.seconds * summary.tokens_per_second)


def read_checkpoint(record: RoundRecord | None) -> CheckpointManifest | None:
    """The manifest of a round's checkpoint; None if there is none on this machine."""
    return _read(record.checkpoint if record is not None else None, CheckpointManifest)


def _read(folder: Path | None, kind: type[M]) -> M | None:
    """The manifest of a stage's folder; None where it is not on this machine."""
    if folder is None:
        return None
    try:
        return read_manifest(folder, kind, verify=False)
    except ManifestError:
        return None


def _base_name(workspace: Workspace, mine: RoundRecord) -> str:
    """The base model that a version's lineage began with, whatever the config names today; the config's in lineages that do not say."""
    chain = read_ancestry(workspace.lineage, mine.version) if mine.version is not None else []
    return (original_base(workspace.lineage, chain[0]) if chain else None) or workspace.config.base_model


def _rows(
    workspace: Workspace, mine: RoundRecord, parent: RoundRecord | None, made: CheckpointManifest | None
) -> Iterator[tuple[str, str]]:
    drop = _read(mine.drop, DropManifest)
    summary = made.summary if made is not None else None
    if mine.started is not None:
        yield "Started (UTC)", moment(mine.started)
    yield "Started from", _name(parent) if parent is not None else "nothing"
    yield "Base model", _base_name(workspace, mine)
    if drop is not None:
        yield "Drop", drop.source
        left_out = f", {drop.rows_quarantined:,} left out" if drop.rows_quarantined else ""
        sealed = f", {drop.rows_sealed:,} sealed" if drop.rows_sealed else ""
        rows = f"{drop.rows_read:,} read: {drop.rows_clean:,} for training, {drop.rows_heldout:,} held out"
        yield "Rows", rows + sealed + left_out
    if made is not None and (words := schedule_words(made)):
        yield "Training", words
    parts = [f"{duration(summary.seconds)} of it training"] if summary is not None else []
    if (report := _read(mine.evaluation, EvalReport)) is not None:
        parts.append(f"{duration(sum(suite.seconds for suite in report.suites))} evaluation of the candidate")
    yield "Duration", ", ".join((duration(mine.seconds), *parts))
    if summary is not None:
        tokens = count(trained_tokens(summary))
        memory = f", at most {summary.peak_memory_bytes / 2**30:.1f} GiB of memory" if summary.peak_memory_bytes else ""
        yield "Cost", f"{tokens} tokens trained on {summary.device or 'an unknown device'}{memory}"
    yield "Decided", f"{mine.event or mine.status} by {mine.who or 'nobody yet'}" + (f", {moment(mine.when)}" if mine.when else "")


def _name(record: RoundRecord) -> str:
    return f"version {record.version} ({f'round {record.round}, {record.skill}' if record.skill else 'the base'})"


def _differences(mine: RoundRecord, parent: RoundRecord | None, made: CheckpointManifest | None) -> tuple[Difference, ...]:
    """Drop, settings and package versions against the round that this one was trained from."""
    before = read_checkpoint(parent)
    if made is None or before is None or parent is None or parent.skill is None:
        return ()
    old, new = _read(parent.drop, DropManifest), _read(mine.drop, DropManifest)
    found = []
    if old is not None and new is not None:
        found = [Difference("drop", f"{old.source}, {old.rows_clean:,} rows", f"{new.source}, {new.rows_clean:,} rows")]
        if old.contract_version != new.contract_version:
            found.append(Difference("data contract", old.contract_version, new.contract_version))
    return (*found, *setting_differences(before, made))
