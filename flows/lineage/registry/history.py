"""The history of the lineage, read from MLflow alone: one record per attempt, successful or not."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from flows.lineage.registry.ledger import read_ledger
from flows.lineage.registry.versions import CHAMPION, as_reference, raw_versions
from flows.lineage.storage.connection import PREFIX, Lineage, plainly
from flows.lineage.storage.records import MOVES_CHAMPION, LedgerEntry, RoundRecord, VersionRef
from flows.lineage.storage.tracking import find_runs, real_path

_DIGESTS = {
    "drop": "drop_sha256",
    "model": "model_sha256",
    "checkpoint": "manifest_sha256",
    "evaluation": "evaluation_sha256",
    "reevaluation": "reevaluation_sha256",
    "verdict": "verdict_sha256",
}
Status = Literal["running", "failed", "finished", "deleted", "missing"]


@plainly
def read_history(lineage: Lineage) -> list[RoundRecord]:
    """All attempts, by round and attempt; a version without a run has status `missing`. Three requests in total, not one per round."""
    return list(read_lineage(lineage)[0])


@plainly
def read_lineage(lineage: Lineage) -> tuple[tuple[RoundRecord, ...], tuple[LedgerEntry, ...]]:
    """History and ledger, with one read of the registry."""
    model = lineage.client.get_registered_model(lineage.model_name)
    versions = raw_versions(lineage)
    entries = read_ledger(lineage, versions, model.tags)
    champion = next((int(version) for name, version in model.aliases.items() if name == CHAMPION), None)
    by_run: dict[str, Any] = {raw.tags[PREFIX + "parent_run"]: raw for raw in versions if PREFIX + "parent_run" in raw.tags}
    records = [_record(lineage, run, by_run.pop(run.info.run_id, None), entries, champion) for run in find_runs(lineage, "round")]
    records += [_record(lineage, None, raw, entries, champion) for raw in by_run.values()]
    return tuple(sorted(records, key=lambda record: (record.round, record.attempt, record.version or sys.maxsize))), entries


@plainly
def read_ancestry(lineage: Lineage, version: int) -> list[VersionRef]:
    """The ancestors of `version` and itself, the base model first; rounds that were rolled back are not among them."""
    by_number = {int(raw.version): as_reference(lineage, raw) for raw in raw_versions(lineage)}
    line: list[VersionRef] = []
    at: int | None = version
    while at is not None and at in by_number:
        line.append(by_number.pop(at))
        at = line[-1].parent_version
    return line[::-1]


def _record(lineage: Lineage, run: Any, raw: Any, entries: Sequence[LedgerEntry], champion: int | None) -> RoundRecord:
    tags: dict[str, str] = {name.removeprefix(PREFIX): value for name, value in (raw.tags if raw is not None else {}).items()}
    if run is not None:
        tags = {name.removeprefix(PREFIX): value for name, value in run.data.tags.items()} | tags
    number = int(raw.version) if raw is not None else None
    own = [entry for entry in entries if entry.version == number]
    event = _last_event(entries, number, run, tags)
    judged = [entry for entry in own if entry.action in ("approve", "reject")]
    folders = {role: real_path(lineage, tags.get(role)) for role in ("checkpoint", "evaluation", "reevaluation", "verdict", "drop")}
    return RoundRecord(
        round=int(tags["round"]),
        skill=tags.get("skill") or None,
        method=tags.get("method"),
        attempt=int(tags.get("attempt") or 1),
        version=number,
        status=_status(run),
        decision=tags.get("decision"),
        champion=number is not None and number == champion,
        was_champion=any(entry.champion == number and entry.action in MOVES_CHAMPION for entry in own),
        reasons=tuple(json.loads(tags.get("reasons") or "[]")),
        lost=tuple(json.loads(tags.get("lost") or "[]")),
        scores=_scores(run, tags),
        digests={role: tags[name] for role, name in _DIGESTS.items() if tags.get(name)},
        **folders,
        parent_version=int(tags["parent_version"]) if tags.get("parent_version") else None,
        collected=datetime.fromisoformat(tags["collected"]) if tags.get("collected") else None,
        started=_moment(run.info.start_time) if run is not None else None,
        ended=_moment(run.info.end_time) if run is not None else None,
        approved_until=judged[-1].expires if judged and judged[-1].action == "approve" else None,
        rejected=bool(judged) and judged[-1].action == "reject",
        event=event.what,
        who=event.who,
        when=event.when,
        why=event.why,
        error=tags.get("error") if run is not None and run.info.status == "FAILED" else None,
        run_id=run.info.run_id if run is not None else tags.get("parent_run", ""),
    )


_EVENTS = {
    "promote": "promoted",
    "promote-approved": "promoted on approval",
    "override": "promoted by override",
    "approve": "approved",
    "reject": "rejected",
}
_VERDICTS = {"PASS": "passed", "BLOCK": "blocked", "INCONCLUSIVE": "held", "ERROR": "not measured"}


@dataclass(frozen=True)
class _Event:
    what: str
    who: str | None
    when: datetime | None
    why: str | None


def _last_event(entries: Sequence[LedgerEntry], number: int | None, run: Any, tags: Mapping[str, str]) -> _Event:
    """The last decision about this version. A rollback counts for the version that it replaced; registrations and the like do not count."""
    last: _Event | None = None
    for entry in entries if number is not None else ():
        if entry.version == number and entry.action in _EVENTS:
            last = _Event(_EVENTS[entry.action], actor_of(entry), entry.time, entry.reason)
        elif entry.action == "rollback" and entry.previous == number and entry.champion != number:
            last = _Event(f"rolled back to version {entry.champion}", actor_of(entry), entry.time, entry.reason)
        elif entry.action == "rollback" and entry.champion == number and last is not None and last.what.startswith("rolled back"):
            last = _Event("champion again by rollback", actor_of(entry), entry.time, entry.reason)
    if last is not None:
        return last
    ended = _moment(run.info.end_time) if run is not None else None
    if (decision := tags.get("decision")) is not None:
        reasons = json.loads(tags.get("reasons") or "[]")
        return _Event(_VERDICTS.get(decision, decision), "gate", ended, reasons[0] if reasons else None)
    return _Event(_status(run), None, ended, tags.get("error"))


def actor_of(entry: LedgerEntry) -> str:
    """Who decided, with the authenticated user of the MLflow server if that is another name."""
    known = entry.authenticated
    return entry.actor if known in (None, entry.actor) else f"{entry.actor} (signed in as {known})"


def _status(run: Any) -> Status:
    if run is None:
        return "missing"
    if run.info.lifecycle_stage == "deleted":
        return "deleted"
    known: dict[str, Status] = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "failed"}
    return known.get(run.info.status, "running")


def _scores(run: Any, tags: dict[str, str]) -> dict[str, float]:
    if run is None:
        return {}
    scores = {name.removeprefix("score/"): value for name, value in run.data.metrics.items() if name.startswith("score/")}
    return {tags.get(f"suite/{name}", name): float(value) for name, value in scores.items()}


def _moment(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)


def problem_of(record: RoundRecord) -> str | None:
    """What is wrong with a record's run and what to do; None if the run exists."""
    if record.status == "deleted":
        return f"run {record.run_id} of round {record.round} was deleted; restore it: mlflow runs restore --run-id {record.run_id}"
    if record.status == "missing":
        return f"run {record.run_id} of round {record.round} is not in MLflow any more; restore the database from backup"
    return None
