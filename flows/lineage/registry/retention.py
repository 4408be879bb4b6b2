"""Which dense checkpoints stay, and how the others are deleted so that they can come back.

Only the weights of a version go; its manifest, update, reports, verdict and drop stay. Before anything is deleted the weights are rebuilt
from the parent and compared with what lies there: a version that does not come back is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from pydantic import Field

from data_contracts.digests import file_digest
from data_contracts.errors import CheckpointError, LineageError, ManifestError
from data_contracts.files import write_atomically
from data_contracts.manifests import CheckpointManifest, Record, read_manifest
from flows.lineage.registry.history import read_ancestry, read_history
from flows.lineage.registry.promotion import champion_number, confirmed_champion, promotion_lock, record_note
from flows.lineage.registry.rebuild import live_headers, rebuild_weights
from flows.lineage.registry.versions import CANDIDATE, PREVIOUS, aliases, find_version
from flows.lineage.storage.collected import COLLECTED_FILE, Collected, is_weights
from flows.lineage.storage.connection import PREFIX, Lineage, plainly
from flows.lineage.storage.records import RoundRecord, VersionRef
from flows.lineage.storage.weights import largest_difference

_ROUNDING_STEPS = 1.0


class RetentionPolicy(Record):
    """What stays dense whatever its age: champion, previous, candidate, the base, candidates that wait for a person, and these."""

    keep_last: int = Field(3, ge=1, description="newest versions")
    keep_anchors: bool = Field(True, description="every version that the champion was built on: suites are re-scored on them")
    allow_rounding: bool = Field(False, description="also collect what comes back equal to rounding only; it gets a digest of its own then")


class CollectionItem(Record):
    """One checkpoint folder (versions of one content share it) and what becomes of its weights."""

    versions: tuple[int, ...]
    folder: Path
    bytes: int = Field(description="of the dense weights that are there")
    action: Literal["keep", "collect", "collected"]
    reason: str


def plan_collection(
    records: Sequence[RoundRecord], aliases: Mapping[str, int], champion: int | None, anchors: frozenset[int], policy: RetentionPolicy
) -> list[CollectionItem]:
    """Pure but for file sizes: what would be deleted, and why the rest stays."""
    registered = [record for record in records if record.version is not None and record.checkpoint is not None]
    newest = {record.version for record in sorted(registered, key=lambda record: record.version or 0)[-policy.keep_last :]}
    folders: dict[Path, list[RoundRecord]] = {}
    for record in registered:
        folders.setdefault(record.checkpoint or Path(), []).append(record)
    items = []
    for folder, sharing in folders.items():
        reasons = [reason for record in sharing if (reason := _stays(record, newest, aliases, champion, anchors, policy))]
        there = sum(path.stat().st_size for path in (folder / "model").glob("*.safetensors"))
        gone = sharing[0].collected is not None and there == 0
        items.append(
            CollectionItem(
                versions=tuple(record.version or 0 for record in sharing),
                folder=folder,
                bytes=there,
                action="collected" if gone else "keep" if reasons else "collect",
                reason=f"on {sharing[0].collected:%Y-%m-%d}"
                if gone
                else reasons[0]
                if reasons
                else f"older than the last {policy.keep_last}",
            )
        )
    return items


def _stays(
    record: RoundRecord,
    newest: set[int | None],
    aliases: Mapping[str, int],
    champion: int | None,
    anchors: frozenset[int],
    policy: RetentionPolicy,
) -> str | None:
    """Why a version's weights stay, or None."""
    named = [name for name in (PREVIOUS, CANDIDATE) if aliases.get(name) == record.version]
    rules = (
        (record.version == champion, "champion"),
        (bool(named), "".join(named[:1])),
        (record.method == "base", "the base: everything is rebuilt from it"),
        (policy.keep_anchors and record.version in anchors, "anchor of the champion's suites"),
        (record.decision == "INCONCLUSIVE" and record.parent_version == champion and not record.rejected, "waits for a person"),
        (record.version in newest, f"among the last {policy.keep_last}"),
    )
    return next((reason for holds, reason in rules if holds), None)


@plainly
def collect_garbage(lineage: Lineage, policy: RetentionPolicy, *, actor: str, dry_run: bool = False) -> list[CollectionItem]:
    """Plan, and unless it is a dry run delete, child before parent so that each proof reads weights that are there."""
    champion = champion_number(lineage)
    anchors = frozenset(reference.version for reference in read_ancestry(lineage, champion)) if champion is not None else frozenset[int]()
    plan = plan_collection(read_history(lineage), aliases(lineage), champion, anchors, policy)
    if dry_run:
        return plan
    done = {item.versions: collect(lineage, item, policy, actor=actor) for item in reversed(plan) if item.action == "collect"}
    return [done.get(item.versions, item) for item in plan]


def collect(lineage: Lineage, item: CollectionItem, policy: RetentionPolicy, *, actor: str) -> CollectionItem:
    """Delete the weights of one planned item, after the proof that they come back. What cannot be proven is kept, with the reason."""
    references = [find_version(lineage, version) for version in item.versions]
    try:
        if any(reference.collected is None for reference in references):  # nothing is deleted before every one is marked
            proof = _prove(lineage, references[0], policy)
            _mark(lineage, references, proof, actor)
        _delete_weights(references[0].checkpoint)
    except (CheckpointError, ManifestError, LineageError) as error:
        return item.model_copy(update={"action": "keep", "reason": f"{error.what} ({error.where})"})
    return item.model_copy(update={"action": "collected", "reason": f"{item.bytes} bytes freed"})


def _prove(lineage: Lineage, reference: VersionRef, policy: RetentionPolicy) -> Collected:
    """Rebuild the weights beside the ones that are there and compare."""
    manifest = read_manifest(reference.checkpoint, CheckpointManifest)
    weights = {role: ref for role, ref in manifest.files.items() if is_weights(role)}
    headers = live_headers(reference.checkpoint, manifest)
    with TemporaryDirectory(dir=lineage.state_dir, prefix=".rebuild-") as scratch:
        target = Path(scratch) / "again"
        rebuild_weights(lineage, reference, manifest, headers, target, Path(scratch))
        exact = all(file_digest(target / ref.path) == ref.sha256 for ref in weights.values())
        steps = 0.0 if exact else max(largest_difference(reference.checkpoint / ref.path, target / ref.path) for ref in weights.values())
    if not exact and not (policy.allow_rounding and steps <= _ROUNDING_STEPS):
        raise LineageError(f"version {reference.version}", f"comes back {steps:.2g} rounding steps off, not byte for byte")
    return Collected(headers=headers, exact=exact, rounding_steps=steps)


def _mark(lineage: Lineage, references: Sequence[VersionRef], proof: Collected, actor: str) -> None:
    """From here on the version counts as collected; deleting its files can be repeated."""
    with promotion_lock(lineage):
        if confirmed_champion(lineage) in {reference.version for reference in references}:
            raise LineageError(f"version {references[0].version}", "became champion meanwhile")
        now = datetime.now(UTC)
        write_atomically(references[0].checkpoint / COLLECTED_FILE, proof.model_dump_json() + "\n")
        for reference in references:
            if reference.collected is not None:
                continue
            kind = "byte for byte" if proof.exact else f"equal to {proof.rounding_steps:.2g} rounding steps"
            record_note(lineage, "collect", reference, reason=f"weights deleted; proven to come back {kind}", actor=actor)
            lineage.client.set_model_version_tag(lineage.model_name, str(reference.version), PREFIX + "collected", now.isoformat())


def _delete_weights(checkpoint: Path) -> None:
    for path in (checkpoint / "model").glob("*.safetensors"):
        path.unlink()
