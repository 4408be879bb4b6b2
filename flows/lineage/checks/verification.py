"""Recompute all digests of the lineage, and compare MLflow, ledger and files with each other.

Problems are returned, not raised; each finding names the round, the version, the place and what to do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

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
from flows.lineage.checks.cache_checks import check_caches
from flows.lineage.checks.ledger_rules import Finding, broken_rules
from flows.lineage.checks.version_checks import check_replay, check_sources, check_version
from flows.lineage.model_signature import SIGNATURE_NAME, signature_problem
from flows.lineage.registry.heads import head_of, kept_heads
from flows.lineage.registry.history import problem_of, read_lineage
from flows.lineage.registry.ledger import LEDGER_FILE, champion_by_ledger, read_copy, read_ledger
from flows.lineage.registry.replaying import stored_reports
from flows.lineage.registry.versions import CHAMPION, aliases, find_version, raw_versions
from flows.lineage.storage.collected import expected_files, read_collected
from flows.lineage.storage.connection import PREFIX, Lineage, plainly
from flows.lineage.storage.records import LedgerEntry, RegisteredVersion, RoundRecord
from flows.lineage.storage.signing import bad_signatures, has_model_signing, require_signed, signed_from, trusted_keys, with_public
from flows.lineage.storage.tracking import find_runs

_KINDS: tuple[tuple[str, type[Manifest]], ...] = (
    ("checkpoint", CheckpointManifest),
    ("evaluation", EvalReport),
    ("reevaluation", EvalReport),
    ("verdict", Verdict),
    ("drop", DropManifest),
)


class Verification(Record):
    """`head`: the head of the ledger; `signed_from`: number of the first signed entry; `replayed`: number of recomputed verdicts;
    `signed_models`: number of model folders whose OpenSSF signature was verified."""

    rounds: int
    files: int
    bytes: int
    findings: tuple[Finding, ...]
    entries: int = 0
    replayed: int = 0
    head: str | None = None
    signed_from: int | None = None
    signed_models: int = 0

    @property
    def ok(self) -> bool:
        return not self.findings

    def signatures(self) -> str:
        """How much of the ledger is signed, in words."""
        if self.signed_from is None:
            return "the ledger is not signed"
        before = "" if self.signed_from == 0 else f"; {self.signed_from} entries before it are older than the key"
        models = f"; {self.signed_models} model folders have a valid OpenSSF signature" if self.signed_models else ""
        return f"signed from entry {self.signed_from} on{before}{models}"


@plainly
def verify_lineage(lineage: Lineage, public_keys: Sequence[Path] = (), head: str | None = None) -> Verification:
    """Every file of every registered round, the ledger with its rules, signatures, copies and kept heads, the alias, the runs, the
    champions' verdicts computed again, the cache of scores, and the user's own files that rounds read.

    `public_keys` count besides the configured ones; `head` is one that was kept elsewhere (`number:digest`)."""
    lineage = replace(lineage, keys=with_public(lineage.keys, public_keys))
    findings: list[Finding] = []
    try:
        records, entries = read_lineage(lineage)
    except LineageError as error:
        found = Finding(where=error.where, problem=f"{error.what} ({error.way_out})")
        return Verification(rounds=0, files=0, bytes=0, findings=(found, *_check_kept(lineage, None, head)))
    versions = registered_versions(lineage)
    findings += broken_rules(entries, versions)
    findings += _check_registry(lineage, entries)
    findings += _check_kept(lineage, entries, head)
    findings += _check_signatures(lineage, entries)
    findings += _check_deleted(lineage, versions)
    findings += [_finding(record, record.run_id, problem) for record in records if (problem := problem_of(record))]
    file_findings, refs = _check_all_files(records)
    findings += file_findings
    for record in records:
        findings += check_version(record, versions) if record.version is not None else ()
    reports = stored_reports(lineage.state_dir)
    champions = [record for record in records if record.was_champion and record.verdict is not None]
    for record in champions:
        findings += check_replay(lineage, record, reports)
    model_findings, signed_models = _check_models(lineage, entries, records)
    findings += model_findings
    findings += check_sources(lineage, versions)
    findings += check_caches(lineage, reports)
    return Verification(
        rounds=len(records),
        files=len(refs),
        bytes=sum(ref.bytes for ref in refs),
        findings=tuple(findings),
        entries=len(entries),
        replayed=len(champions),
        head=head_of(entries[-1]) if entries else None,
        signed_from=signed_from(entries),
        signed_models=signed_models,
    )


def registered_versions(lineage: Lineage) -> dict[int, RegisteredVersion]:
    runs = {run.info.run_id: run for run in find_runs(lineage, "round")}
    return {int(raw.version): RegisteredVersion(raw, runs.get(raw.tags.get(PREFIX + "parent_run"))) for raw in raw_versions(lineage)}


@plainly
def require_vouched(lineage: Lineage, version: int) -> None:
    """If a public key is configured, raise LineageError unless signed entries cover the version as it is registered now."""
    if not lineage.keys.required:
        return
    entries = read_ledger(lineage)
    require_signed(lineage.keys, entries, [version])
    for finding in (*broken_rules(entries, registered_versions(lineage)), *_check_kept(lineage, entries, None)):
        if finding.version in (None, version) or finding.where.startswith("ledger"):
            raise LineageError(finding.where, finding.problem, "see `skillstack verify`")
    if lineage.keys.models:
        checkpoint = find_version(lineage, version).checkpoint
        if problem := signature_problem(checkpoint, trusted_keys(entries, lineage.keys.public)):
            raise LineageError(str(checkpoint), problem, "see `skillstack verify`")


def _check_all_files(records: Sequence[RoundRecord]) -> tuple[list[Finding], list[FileRef]]:
    findings: list[Finding] = []
    seen: list[FileRef] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing releases the GIL
        for record_findings, refs in pool.map(_check_files, records):
            findings += record_findings
            seen += refs
    return findings + list(_check_parents(records)), seen


def _check_signatures(lineage: Lineage, entries: Sequence[LedgerEntry]) -> Iterable[Finding]:
    if lineage.keys.required:
        for number, problem in bad_signatures(entries, lineage.keys.public):
            yield Finding(where=f"ledger entry {number}", problem=problem, version=entries[number].version)


def _check_models(lineage: Lineage, entries: Sequence[LedgerEntry], records: Sequence[RoundRecord]) -> tuple[list[Finding], int]:
    """Findings, and the number of valid signatures: of every model folder that has one, of all with `signing.models`."""
    findings, valid = [], 0
    trusted = trusted_keys(entries, lineage.keys.public) if lineage.keys.required else ()
    for record in records:
        if not trusted or record.checkpoint is None or record.collected is not None:
            continue
        if lineage.keys.models or ((record.checkpoint / SIGNATURE_NAME).exists() and has_model_signing()):
            problem = signature_problem(record.checkpoint, trusted)
            findings += [_finding(record, record.checkpoint / "model", problem)] if problem else []
            valid += problem is None
    return findings, valid


def _check_kept(lineage: Lineage, entries: Sequence[LedgerEntry] | None, head: str | None) -> Iterable[Finding]:
    """Compare the heads that were kept elsewhere with the chain. `entries` is None if the chain cannot be read."""
    path = lineage.keys.head_file
    kept = [(str(path), kept) for kept in kept_heads(path)] if path is not None else []
    kept += [("--head", head)] if head is not None else []
    if path is not None and entries and not kept_heads(path):
        yield Finding(where=str(path), problem="contains no head of the ledger: it was removed, or is new")
    for where, text in kept:
        number, _, digest = text.partition(":")
        if not number.isdigit():
            yield Finding(where=where, problem=f"{text!r} is not the head of a ledger (number:digest)")
        elif entries is not None and int(number) >= len(entries):
            yield Finding(
                where=where, problem=f"has entry {number} of the ledger, which now ends at entry {len(entries) - 1}: entries were removed"
            )
        elif entries is not None and entries[int(number)].digest != digest:
            yield Finding(where=where, problem=f"has another entry {number} of the ledger: the ledger was rewritten")


def _check_deleted(lineage: Lineage, versions: Mapping[int, RegisteredVersion]) -> Iterable[Finding]:
    """Find deleted versions: the run of their round still names them."""
    for run in find_runs(lineage, "round"):
        number = run.data.tags.get(PREFIX + "version")
        if number is not None and int(number) not in versions:
            problem = f"round {run.data.tags.get(PREFIX + 'round')} registered it, but it is not in the registry: it was deleted"
            yield Finding(where=f"run {run.info.run_id}", problem=problem, version=int(number))


def _finding(record: RoundRecord, where: str | Path, problem: str) -> Finding:
    return Finding(where=str(where), problem=problem, round=record.round, version=record.version)


def _check_files(record: RoundRecord) -> tuple[list[Finding], list[FileRef]]:
    """Check the manifests of a record and their files."""
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
    """Check all files; continue after a bad one."""
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


def _check_registry(lineage: Lineage, entries: Sequence[LedgerEntry]) -> Iterable[Finding]:
    alias, recorded = aliases(lineage).get(CHAMPION), champion_by_ledger(entries)
    if alias != recorded:
        problem = (
            f"points to version {alias}, but the ledger says {recorded}: moved by hand (correct it with skillstack rollback --to VERSION)"
        )
        yield Finding(where=f"alias {CHAMPION}", problem=problem)
    if entries:
        yield from _check_copy(lineage, entries)


def _check_copy(lineage: Lineage, entries: Sequence[LedgerEntry]) -> Iterable[Finding]:
    copy = read_copy(lineage)
    if copy is None:
        problem = "the ledger's copy among the artifacts is missing (the next promotion writes it again)"
        yield Finding(where=LEDGER_FILE, problem=problem)
    elif copy != [entry.text for entry in entries]:
        yield Finding(where=LEDGER_FILE, problem="the ledger's copy among the artifacts differs from the ledger in the registry")
