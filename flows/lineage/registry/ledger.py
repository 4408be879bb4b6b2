"""The ledger: the append-only record of all decisions about the champion, a hash chain in version tags with a copy as an artifact.

An entry is a tag of its version, so the version's page shows what happened to it. The registered model's tag `ledger_head` has the number
and digest of the newest entry, so that a shortened chain is detected as well as an edited one. heads.py keeps it in a second place too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import ValidationError

from data_contracts.errors import LineageError, ManifestError
from data_contracts.manifests import EvalReport, SuiteResult, read_manifest
from flows.lineage.registry.heads import head_of, keep_head
from flows.lineage.registry.versions import raw_versions
from flows.lineage.storage.connection import PREFIX, Lineage, plainly
from flows.lineage.storage.describe import legal_name
from flows.lineage.storage.records import FIRST_PRIOR, MOVES_CHAMPION, LedgerEntry, VersionRef
from flows.lineage.storage.tracking import find_runs

ENTRY_TAG = PREFIX + "ledger."
HEAD_TAG = PREFIX + "ledger_head"
LEDGER_FILE = "ledger.jsonl"
_WAY_OUT = "find out who changed it; the copy in the artifact ledger.jsonl of the run `ledger` and the backups show what it was"


@plainly
def read_ledger(
    lineage: Lineage, versions: Iterable[Any] | None = None, model_tags: Mapping[str, str] | None = None
) -> tuple[LedgerEntry, ...]:
    """All entries in order, with the chain checked. Raises LineageError at the first entry that is missing or was changed."""
    return check_chain(*ledger_texts(lineage, versions, model_tags))


def ledger_texts(
    lineage: Lineage, versions: Iterable[Any] | None = None, model_tags: Mapping[str, str] | None = None
) -> tuple[list[str], str | None]:
    """The entries as they are stored, in order, and the head according to the registry."""
    versions = raw_versions(lineage) if versions is None else versions
    model_tags = lineage.client.get_registered_model(lineage.model_name).tags if model_tags is None else model_tags
    found = {name: value for raw in versions for name, value in raw.tags.items() if name.startswith(ENTRY_TAG)}
    head = model_tags.get(HEAD_TAG)
    last = int(head.partition(":")[0]) if head and head.partition(":")[0].isdigit() else -1
    if len(found) <= last:  # a deleted version takes its entries along; the copy has them, and the chain proves that they are the same
        copied = {_tag_of(number): text for number, text in enumerate(read_copy(lineage) or ())}
        found = copied | found
    return [value for _, value in sorted(found.items())], head


@plainly
def was_champion(lineage: Lineage, version: int) -> bool:
    """Whether a version is or was champion: a repeated round must not promote again what was rolled back."""
    return any(entry.champion == version and entry.action in MOVES_CHAMPION for entry in read_ledger(lineage))


def entries_before(lineage: Lineage, sequence: int) -> tuple[LedgerEntry, ...]:
    """The entries before the one that is being written; the head may not include it yet."""
    texts = ledger_texts(lineage)[0][:sequence]
    last = LedgerEntry.model_validate_json(texts[-1]) if texts else None
    return check_chain(texts, head_of(last) if last else None)


def check_chain(texts: Sequence[str], head: str | None) -> tuple[LedgerEntry, ...]:
    """Parse the entries and check the chain up to the head (`number:digest` of the newest). Pure."""
    entries: list[LedgerEntry] = []
    prior = FIRST_PRIOR
    for number, text in enumerate(texts):
        where = f"ledger entry {number}"
        try:
            entry = LedgerEntry.model_validate_json(text)
        except ValidationError as error:
            raise LineageError(where, "is not readable", _WAY_OUT) from error
        if entry.sequence < number:
            raise LineageError(where, f"number {entry.sequence} was written twice: two processes wrote without a common lock", _WAY_OUT)
        if entry.sequence != number:
            raise LineageError(where, f"is missing (the next one is {entry.sequence})", _WAY_OUT)
        if entry.prior != prior:
            raise LineageError(where, "does not continue the chain: it or the one before it was changed", _WAY_OUT)
        entries.append(entry)
        prior = entry.digest
    expected = f"{len(entries) - 1}:{prior}" if entries else None
    if head != expected:
        raise LineageError("ledger", f"does not end as the registry says (head {head}, found {expected})", _WAY_OUT)
    return tuple(entries)


def champion_by_ledger(entries: Sequence[LedgerEntry]) -> int | None:
    moves = [entry for entry in entries if entry.action in MOVES_CHAMPION]
    return moves[-1].champion if moves else None


def write_entry(lineage: Lineage, entry: LedgerEntry) -> None:
    """Write one entry; writing the same one again changes nothing."""
    lineage.client.set_model_version_tag(lineage.model_name, str(entry.version), _tag_of(entry.sequence), entry.text)
    lineage.client.set_registered_model_tag(lineage.model_name, HEAD_TAG, head_of(entry))
    keep_head(lineage, entry)


def _tag_of(sequence: int) -> str:
    return f"{ENTRY_TAG}{sequence:06d}"


def read_copy(lineage: Lineage) -> list[str] | None:
    """The lines of the ledger's copy among the artifacts; None if there is no copy."""
    from mlflow.exceptions import MlflowException

    with TemporaryDirectory() as folder:
        try:
            copy = Path(lineage.client.download_artifacts(ledger_run(lineage), LEDGER_FILE, folder)).read_text(encoding="utf-8")
        except (MlflowException, OSError, UnicodeDecodeError):
            return None
    return copy.removesuffix("\n").split("\n")


def copy_to_artifact(lineage: Lineage, entries: Sequence[LedgerEntry]) -> None:
    """Copy the ledger to an artifact in JSON Lines, for people and for backups."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / LEDGER_FILE
        path.write_text("".join(entry.text + "\n" for entry in entries), encoding="utf-8")
        lineage.client.log_artifact(ledger_run(lineage), str(path))


def chart_scores(lineage: Lineage, target: VersionRef, when: datetime) -> None:
    """Log a new champion's scores to the ledger's run, so that there is one chart per suite over the rounds.

    The charts are grouped by category; drift is apart, because there lower is better.
    """
    from mlflow.entities import Metric

    if target.evaluation is None:
        return
    now = int(when.timestamp() * 1000)  # the entry's own time, so that repeating an interrupted promotion adds no second point
    try:
        suites = read_manifest(target.evaluation, EvalReport, verify=False).suites
    except ManifestError:
        return  # a chart is no reason to stop a promotion; `verify` reports what is missing
    lineage.client.log_batch(ledger_run(lineage), metrics=[Metric(chart_name(suite), suite.score, now, target.round) for suite in suites])


def chart_name(suite: SuiteResult) -> str:
    """The chart of a suite in the ledger's run: its group, a slash, its name."""
    groups = {"skill": "skills", "general": "general", "safety": "safety", "drift": "bits per byte - lower is better"}
    return legal_name(f"{'sealed' if suite.sealed else groups[suite.category]}/{suite.name}")


@plainly
def keep_report(lineage: Lineage, *pages: Path) -> None:
    """Copy the month's reports to the ledger's artifacts, under `reports/`; a repeated report replaces the old one."""
    for page in pages:
        lineage.client.log_artifact(ledger_run(lineage), str(page), "reports")


def ledger_run(lineage: Lineage) -> str:
    """The run that holds the ledger's copy and the scores of every promoted round as one chart."""
    for run in find_runs(lineage, "ledger"):
        if run.info.lifecycle_stage == "active":
            return str(run.info.run_id)
    note = (
        "**Model metrics** of this run are the champion's scores: one chart per suite, with the round as the step. Artifacts: "
        "`ledger.jsonl`, all decisions about the champion with person and reason, and `reports/`, the monthly reports."
    )
    tags = {PREFIX + "kind": "ledger", "mlflow.note.content": note, "mlflow.source.name": "skillstack"}
    run_id = str(lineage.client.create_run(lineage.experiment_id, tags=tags, run_name="ledger · champion's scores by round").info.run_id)
    lineage.client.set_terminated(run_id, status="FINISHED")
    return run_id
