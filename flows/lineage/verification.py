"""Recompute every digest in the lineage, and compare MLflow, ledger and files with each other: what is missing, changed or out of place.

Nothing is raised for what is found; each finding names the round, the version, the place and what to do.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from data_contracts.errors import LineageError, ManifestError
from data_contracts.manifests import (
    CheckpointManifest,
    DropManifest,
    EvalReport,
    FileRef,
    Manifest,
    Record,
    Verdict,
    manifest_digest,
    read_manifest,
    verify_files,
)
from flows.lineage.collected import expected_files, read_collected
from flows.lineage.connection import Store
from flows.lineage.history import problem_of, read_lineage
from flows.lineage.ledger import LEDGER_FILE, champion_by_ledger, entry_text, ledger_run
from flows.lineage.records import LedgerEntry, RoundRecord
from flows.lineage.registry import CHAMPION, aliases

_KINDS: tuple[tuple[str, type[Manifest]], ...] = (
    ("checkpoint", CheckpointManifest),
    ("evaluation", EvalReport),
    ("reevaluation", EvalReport),
    ("verdict", Verdict),
    ("drop", DropManifest),
)


class Finding(Record):
    """One thing that is not as the lineage says."""

    where: str
    problem: str
    round: int | None = None
    version: int | None = None


class Verification(Record):
    rounds: int
    files: int
    bytes: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return not self.findings


def verify_lineage(store: Store) -> Verification:
    """Every file of every registered round, the ledger's chain and copy, the alias, and the runs."""
    findings: list[Finding] = []
    try:
        records, entries = read_lineage(store)
    except LineageError as error:
        found = Finding(where=error.where, problem=f"{error.what} ({error.way_out})")
        return Verification(rounds=0, files=0, bytes=0, findings=(found,))
    findings += _check_order(entries)
    findings += _check_registry(store, entries)
    findings += [_finding(record, record.run_id, problem) for record in records if (problem := problem_of(record))]
    files = 0
    size = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing lets go of the interpreter
        for record_findings, refs in pool.map(_check_files, records):
            findings += record_findings
            files += len(refs)
            size += sum(ref.bytes for ref in refs)
    findings += _check_parents(records)
    return Verification(rounds=len(records), files=files, bytes=size, findings=tuple(findings))


def _finding(record: RoundRecord, where: str | Path, problem: str) -> Finding:
    return Finding(where=str(where), problem=problem, round=record.round, version=record.version)


def _check_files(record: RoundRecord) -> tuple[list[Finding], list[FileRef]]:
    """The manifests that a record names, and the files that those name."""
    findings: list[Finding] = []
    seen: list[FileRef] = []
    for role, kind in _KINDS:
        folder: Path | None = getattr(record, role)
        if folder is None:
            continue
        try:
            manifest = read_manifest(folder, kind, verify=False)
            wanted = record.digests.get(role)
            if role != "drop" and wanted is not None and manifest_digest(manifest) != wanted:
                findings.append(_finding(record, folder, f"its manifest is not the one that was registered ({wanted[:12]})"))
            refs = expected_files(manifest, collected=record.collected is not None)
            if role == "checkpoint" and record.collected is not None:
                read_collected(folder)
            seen += refs.values()
            verify_each(folder, refs, lambda error: findings.append(_finding(record, error.where, f"{error.what} ({error.way_out})")))
        except (ManifestError, LineageError) as error:
            findings.append(_finding(record, error.where, f"{error.what} ({error.way_out})"))
    return findings, seen


def verify_each(folder: Path, refs: dict[str, FileRef], report: Callable[[ManifestError], None]) -> None:
    """Check every file and go on after a bad one."""
    for role, ref in refs.items():
        try:
            verify_files(folder, {role: ref})
        except ManifestError as error:
            report(error)


def _check_parents(records: Sequence[RoundRecord]) -> Iterable[Finding]:
    known = {record.version for record in records}
    for record in records:
        if record.parent_version is not None and record.parent_version not in known:
            yield _finding(record, f"version {record.version}", f"its parent, version {record.parent_version}, is not in the registry")


def _check_order(entries: Sequence[LedgerEntry]) -> Iterable[Finding]:
    for before, after in itertools.pairwise(entries):
        if after.time < before.time:
            problem = f"is dated {after.time:%Y-%m-%d %H:%M:%S}, before the entry that it follows: a clock was wrong"
            yield Finding(where=f"ledger entry {after.sequence}", problem=problem, version=after.version)


def _check_registry(store: Store, entries: Sequence[LedgerEntry]) -> Iterable[Finding]:
    alias, recorded = aliases(store).get(CHAMPION), champion_by_ledger(entries)
    if alias != recorded:
        problem = f"points to version {alias}, the ledger says {recorded}: moved by hand (skillstack rollback --to VERSION puts it right)"
        yield Finding(where=f"alias {CHAMPION}", problem=problem)
    if entries:
        yield from _check_copy(store, entries)


def _check_copy(store: Store, entries: Sequence[LedgerEntry]) -> Iterable[Finding]:
    from mlflow.exceptions import MlflowException

    with TemporaryDirectory() as folder:
        try:
            copy = Path(store.client.download_artifacts(ledger_run(store), LEDGER_FILE, folder)).read_text(encoding="utf-8")
        except (MlflowException, OSError):
            yield Finding(
                where=LEDGER_FILE, problem="the ledger's copy among the artifacts is missing (the next promotion writes it again)"
            )
            return
    if copy.removesuffix("\n").split("\n") != [entry_text(entry) for entry in entries]:
        yield Finding(where=LEDGER_FILE, problem="the ledger's copy among the artifacts is not the ledger in the registry")
