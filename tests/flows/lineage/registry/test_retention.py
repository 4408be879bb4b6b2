"""Old weights go and come back: byte for byte on checkpoints that the engine itself trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_contracts.digests import model_digest, model_files
from data_contracts.errors import LineageError
from data_contracts.manifests import (
    CheckpointManifest,
    file_ref,
    manifest_digest,
    read_manifest,
    write_manifest,
)
from flows.lineage import (
    Lineage,
    RetentionPolicy,
    RoundRecord,
    collect_garbage,
    current_champion,
    find_version,
    read_history,
    read_ledger,
    rebuild_version,
    roll_back,
    verify_lineage,
)
from flows.lineage.registry.retention import plan_collection

SHORT = RetentionPolicy(keep_last=1, keep_anchors=False)


def _weights(lineage: Lineage, version: int) -> Path:
    return find_version(lineage, version).checkpoint / "model" / "model.safetensors"


def _kept(items) -> dict[int, str]:
    return {version: item.reason for item in items for version in item.versions if item.action == "keep"}


def test_a_dry_run_says_what_would_go_and_touches_nothing(trained):
    before = verify_lineage(trained)
    items = collect_garbage(trained, SHORT, actor="ann", dry_run=True)
    assert [item.versions for item in items if item.action == "collect"] == [(2,)]
    assert set(_kept(items)) == {1, 3, 4, 5}
    assert _kept(items)[4] == "champion"
    assert verify_lineage(trained) == before


def test_what_the_champion_was_built_on_stays_by_default(trained):
    items = collect_garbage(trained, RetentionPolicy(keep_last=1), actor="ann", dry_run=True)
    assert [item.action for item in items] == ["keep"] * 5


def test_collected_weights_come_back_byte_for_byte(trained):
    bytes_before = _weights(trained, 2).read_bytes()
    collect_garbage(trained, SHORT, actor="ann")
    assert not _weights(trained, 2).exists()
    assert verify_lineage(trained).ok  # what is expected of a collected version is there
    with pytest.raises(LineageError, match=r"deleted by gc on .* skillstack rebuild 2"):
        find_version(trained, 2, verify=True)
    with pytest.raises(LineageError, match="deleted by gc on"):
        roll_back(trained, 2, reason="complaints", actor="ann")

    manifest = rebuild_version(trained, 2, actor="ann")
    assert _weights(trained, 2).read_bytes() == bytes_before
    assert manifest_digest(manifest) == find_version(trained, 2, verify=True).manifest_sha256
    assert [entry.action for entry in read_ledger(trained)][-2:] == ["collect", "rebuild"]
    assert roll_back(trained, 2, reason="complaints", actor="ann").champion == 2


def test_history_keeps_each_versions_own_decision_and_reason_through_gc(trained):
    def said() -> dict[int | None, tuple[object, ...]]:
        return {record.version: (record.event, record.who, record.when, record.why, record.reasons) for record in read_history(trained)}

    before = said()
    assert before[5][0] == "blocked"
    assert before[5][4]
    collect_garbage(trained, SHORT, actor="ann")
    assert said() == before


def test_without_a_stored_update_nothing_is_deleted(trained, register):
    _, newest, _ = register(trained, "newest", 5, parent=current_champion(trained).model_sha256)
    items = collect_garbage(trained, SHORT, actor="ann")
    assert newest.version == 6  # so that version 5, the full fine-tuning, is not among the last
    [item] = [item for item in items if item.versions == (5,)]
    assert item.action == "keep"
    assert "no stored update (method full)" in item.reason
    assert _weights(trained, 5).is_file()


def test_weights_that_come_back_equal_to_rounding_are_kept_unless_that_was_allowed(trained, tmp_path):
    """As after training on a GPU: one element of the stored weights is one rounding step away from what a CPU computes."""
    from safetensors.torch import load_file, save_file

    checkpoint = find_version(trained, 2).checkpoint
    tensors = load_file(_weights(trained, 2))
    name = next(name for name in tensors if name.endswith("q_proj.weight"))
    tensors[name][0, 0] *= 1 + torch_eps()
    save_file(tensors, _weights(trained, 2), metadata={"format": "pt"})
    before = read_manifest(checkpoint, CheckpointManifest, verify=False)
    files = {role: file_ref(checkpoint, checkpoint / ref.path) for role, ref in before.files.items()}
    manifest = before.model_copy(update={"files": files, "model_sha256": model_digest(model_files(checkpoint / "model"))})
    write_manifest(checkpoint, manifest)
    for tag, value in (("manifest_sha256", manifest_digest(manifest)), ("model_sha256", manifest.model_sha256)):
        trained.client.set_model_version_tag("tiny", "2", f"skillstack.{tag}", value)

    [item] = [item for item in collect_garbage(trained, SHORT, actor="ann") if item.versions == (2,)]
    assert item.action == "keep"
    assert "rounding steps, not byte for byte" in item.reason
    [item] = [
        item for item in collect_garbage(trained, SHORT.model_copy(update={"allow_rounding": True}), actor="ann") if item.versions == (2,)
    ]
    assert item.action == "collected"
    with pytest.raises(LineageError, match="up to rounding only"):
        rebuild_version(trained, 2, actor="ann")
    rebuilt = rebuild_version(trained, 2, out=tmp_path / "again", actor="ann")
    assert rebuilt.model_sha256 == before.model_sha256  # what the CPU computed in the first place
    again = load_file(tmp_path / "again" / "model" / "model.safetensors")
    assert all((again[key] - value).abs().max() <= 1e-6 for key, value in tensors.items())


def torch_eps() -> float:
    import torch

    return torch.finfo(torch.float32).eps


def test_versions_that_share_a_folder_are_judged_together(tmp_path):
    folder = tmp_path / "checkpoint"
    (folder / "model").mkdir(parents=True)
    records = [
        RoundRecord(
            round=1, skill="a", method="osft", attempt=attempt, version=version, status="finished", checkpoint=folder, run_id=str(version)
        )
        for attempt, version in ((1, 2), (2, 3))
    ]
    for champion, action in ((3, "keep"), (9, "collect")):
        plan = plan_collection([*records, _newer()], {}, champion, frozenset(), SHORT)
        assert [item.action for item in plan if 2 in item.versions] == [action]
    assert plan[0].versions == (2, 3)


def _newer() -> RoundRecord:
    return RoundRecord(
        round=2, skill="b", method="osft", attempt=1, version=9, status="finished", checkpoint=Path("/elsewhere"), run_id="9"
    )


def test_a_candidate_that_waits_for_a_person_stays(tmp_path):
    held = RoundRecord(
        round=2,
        skill="a",
        method="osft",
        attempt=1,
        version=2,
        parent_version=1,
        status="finished",
        decision="INCONCLUSIVE",
        checkpoint=tmp_path,
        run_id="2",
    )
    for record, champion, action in ((held, 1, "keep"), (held, 8, "collect"), (held.model_copy(update={"rejected": True}), 1, "collect")):
        [item, _] = plan_collection([record, _newer()], {}, champion, frozenset(), SHORT)
        assert item.action == action


def test_gc_killed_after_any_write_and_run_again_collects_once(trained, kill_everywhere):
    begun: set[int] = set()

    def collect(lineage: Lineage, after: int):
        if after not in begun:
            begun.add(after)
            rebuild_version(trained, 2, actor="ann")
        return collect_garbage(lineage, SHORT, actor="ann")

    def check(after: int, items) -> None:
        assert ("collected", (2,)) in {(item.action, item.versions) for item in items}
        assert find_version(trained, 2).collected is not None
        assert not _weights(trained, 2).exists()
        assert [entry.action for entry in read_ledger(trained) if entry.version == 2].count("collect") == after

    kill_everywhere(trained, collect, check, least=5)
    assert verify_lineage(trained).findings == ()
