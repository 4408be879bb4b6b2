"""Which dense weights are kept, and how the others are deleted so that they can be rebuilt.

Only the weights of a version are deleted; its manifest, update, reports, verdict and drop are kept. Before that, the weights are rebuilt
from the parent and compared with the existing ones: a version that cannot be rebuilt is kept.
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
from evals.numbers import plain
from flows.lineage.registry.entries import confirmed_champion, promotion_lock, record_note
from flows.lineage.registry.history import read_ancestry, read_history
from flows.lineage.registry.promotion import champion_number
from flows.lineage.registry.rebuild import live_headers, rebuild_weights
from flows.lineage.registry.versions import CANDIDATE, PREVIOUS, aliases, find_version
from flows.lineage.storage.collected import COLLECTED_FILE, Collected, is_weights
from flows.lineage.storage.connection import PREFIX, Lineage, plainly
from flows.lineage.storage.records import RoundRecord, VersionRef
from flows.lineage.storage.weights import largest_difference

_ROUNDING_STEPS = 1.0


class RetentionPolicy(Record):
    """Which weights are kept besides those of champion, previous champion, candidate, base model, and versions that wait for a person."""

    keep_last: int = Field(3, ge=1, description="newest versions")
    keep_anchors: bool = Field(True, description="ancestors of the champion, which new suites are evaluated on")
    allow_rounding: bool = Field(
        False, description="also delete weights that can be rebuilt up to rounding only; rebuilt, they have another digest"
    )


class CollectionItem(Record):
    """One checkpoint folder (shared by versions with the same content) and what is done with its weights."""

    versions: tuple[int, ...]
    folder: Path
    bytes: int = Field(description="size of the existing dense weights")
    action: Literal["keep", "collect", "collected"]
    reason: str


def plan_collection(
    records: Sequence[RoundRecord], aliases: Mapping[str, int], champion: int | None, anchors: frozenset[int], policy: RetentionPolicy
) -> list[CollectionItem]:
    """What would be deleted, and why the rest is kept. Pure except for file sizes."""
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
    """Why a version's weights are kept, or None."""
    named = [name for name in (PREVIOUS, CANDIDATE) if aliases.get(name) == record.version]
    rules = (
        (record.version == champion, "champion"),
        (bool(named), "".join(named[:1])),
        (record.method == "base", "the base model, which everything is rebuilt from"),
        (policy.keep_anchors and record.version in anchors, "ancestor of the champion"),
        (record.decision == "INCONCLUSIVE" and record.parent_version == champion and not record.rejected, "waits for a person"),
        (record.version in newest, f"among the last {policy.keep_last}"),
    )
    return next((reason for holds, reason in rules if holds), None)


@plainly
def collect_garbage(lineage: Lineage, policy: RetentionPolicy, *, actor: str, dry_run: bool = False) -> list[CollectionItem]:
    """Plan, and unless it is a dry run delete; children before parents, so that each rebuild reads existing weights."""
    champion = champion_number(lineage)
    anchors = frozenset(reference.version for reference in read_ancestry(lineage, champion)) if champion is not None else frozenset[int]()
    plan = plan_collection(read_history(lineage), aliases(lineage), champion, anchors, policy)
    if dry_run:
        return plan
    done = {item.versions: collect(lineage, item, policy, actor=actor) for item in reversed(plan) if item.action == "collect"}
    return [done.get(item.versions, item) for item in plan]


def collect(lineage: Lineage, item: CollectionItem, policy: RetentionPolicy, *, actor: str) -> CollectionItem:
    """Delete the weights of one item after rebuilding them as a test. If that fails they are kept, with the reason."""
    references = [find_version(lineage, version) for version in item.versions]
    try:
        if any(reference.collected is None for reference in references):  # nothing is deleted before all are marked
            proof = _prove(lineage, references[0], policy)
            _mark(lineage, references, proof, actor)
        _delete_weights(references[0].checkpoint)
    except (CheckpointError, ManifestError, LineageError) as error:
        return item.model_copy(update={"action": "keep", "reason": f"{error.what} ({error.where})"})
    return item.model_copy(update={"action": "collected", "reason": f"{item.bytes} bytes freed"})


def _prove(lineage: Lineage, reference: VersionRef, policy: RetentionPolicy) -> Collected:
    """Rebuild the weights in a temporary folder and compare them with the existing ones."""
    manifest = read_manifest(reference.checkpoint, CheckpointManifest)
    weights = {role: ref for role, ref in manifest.files.items() if is_weights(role)}
    headers = live_headers(reference.checkpoint, manifest)
    with TemporaryDirectory(dir=lineage.state_dir, prefix=".rebuild-") as scratch:
        target = Path(scratch) / "again"
        rebuild_weights(lineage, reference, manifest, headers, target, Path(scratch))
        exact = all(file_digest(target / ref.path) == ref.sha256 for ref in weights.values())
        steps = 0.0 if exact else max(largest_difference(reference.checkpoint / ref.path, target / ref.path) for ref in weights.values())
    if not exact and not (policy.allow_rounding and steps <= _ROUNDING_STEPS):
        raise LineageError(
            f"version {reference.version}", f"is rebuilt with a difference of {plain(steps, 2)} rounding steps, not byte for byte"
        )
    return Collected(headers=headers, exact=exact, rounding_steps=steps)


def _mark(lineage: Lineage, references: Sequence[VersionRef], proof: Collected, actor: str) -> None:
    """Mark the versions as collected; after this, deleting the files can be repeated."""
    with promotion_lock(lineage):
        if confirmed_champion(lineage) in {reference.version for reference in references}:
            raise LineageError(f"version {references[0].version}", "became champion meanwhile")
        now = datetime.now(UTC)
        write_atomically(references[0].checkpoint / COLLECTED_FILE, proof.model_dump_json() + "\n")
        for reference in references:
            if reference.collected is not None:
                continue
            kind = "the same byte for byte" if proof.exact else f"equal up to {plain(proof.rounding_steps, 2)} rounding steps"
            record_note(lineage, "collect", reference, reason=f"weights deleted; a rebuild was {kind}", actor=actor)
            lineage.client.set_model_version_tag(lineage.model_name, str(reference.version), PREFIX + "collected", now.isoformat())


def _delete_weights(checkpoint: Path) -> None:
    for path in (checkpoint / "model").glob("*.safetensors"):
        path.unlink()
