"""Weights come back from the base and the stored updates."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_contracts.errors import CheckpointError, LineageError, ManifestError
from data_contracts.manifests import (
    CheckpointManifest,
    read_manifest,
)
from flows.lineage import (
    Lineage,
    RetentionPolicy,
    collect_garbage,
    find_version,
    rebuild_version,
    roll_back,
    verify_lineage,
)
from flows.lineage.registry import rebuild

SHORT = RetentionPolicy(keep_last=1, keep_anchors=False)


def _weights(lineage: Lineage, version: int) -> Path:
    return find_version(lineage, version).checkpoint / "model" / "model.safetensors"


def test_a_version_comes_back_although_its_parents_were_collected_too(trained, register):
    kept = {version: _weights(trained, version).read_bytes() for version in (2, 3)}
    roll_back(trained, 1, reason="start over", actor="ann")
    items = collect_garbage(trained, SHORT, actor="ann")
    # Rolled back to the base: rounds 1 and 2 are neither champion nor previous, and round 2 was built on round 1.
    assert [item.versions for item in items if item.action == "collected"] == [(2,), (3,)]
    rebuild_version(trained, 3, actor="ann")
    assert _weights(trained, 3).read_bytes() == kept[3]
    assert not _weights(trained, 2).exists()


def test_a_rebuild_elsewhere_is_a_whole_checkpoint(trained, tmp_path):
    from transformers import AutoModelForCausalLM

    rebuilt = rebuild_version(trained, 4, out=tmp_path / "again", actor="ann")
    assert read_manifest(tmp_path / "again", CheckpointManifest) == rebuilt
    assert rebuilt.model_sha256 == find_version(trained, 4).model_sha256
    AutoModelForCausalLM.from_pretrained(tmp_path / "again" / "model")
    with pytest.raises(CheckpointError, match="no stored update"):
        rebuild_version(trained, 1, out=tmp_path / "base", actor="ann")


def test_a_changed_update_is_noticed_before_anything_is_rebuilt(trained):
    collect_garbage(trained, SHORT, actor="ann")
    update = find_version(trained, 2).checkpoint / "update.safetensors"
    update.write_bytes(update.read_bytes()[:-1] + b"?")
    with pytest.raises(ManifestError, match=r"update\.safetensors: has changed"):
        rebuild_version(trained, 2, actor="ann")
    assert [finding.version for finding in verify_lineage(trained).findings] == [2]


@pytest.mark.parametrize("damaged", ["the live parent's weights", "a collected parent's update"])
def test_nothing_is_rebuilt_elsewhere_from_files_that_are_not_the_registered_ones(trained, tmp_path, damaged):
    """In place the digests of the result would tell; in another folder nothing would."""
    roll_back(trained, 1, reason="start over", actor="ann")
    collect_garbage(trained, SHORT, actor="ann")
    base, second = _weights(trained, 1), find_version(trained, 2).checkpoint / "update.safetensors"
    path = base if damaged.startswith("the live") else second
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    with pytest.raises(ManifestError, match=f"{path.name}: has changed"):
        rebuild_version(trained, 3, out=tmp_path / "again", actor="ann")
    assert not (tmp_path / "again").exists()


def test_weights_that_came_out_byte_for_byte_may_not_come_out_otherwise_elsewhere(trained, tmp_path, monkeypatch):
    collect_garbage(trained, SHORT, actor="ann")
    written = rebuild.write_weights

    def otherwise(header, parent, update, target):
        written(header, parent, update, target)
        target.write_bytes(target.read_bytes()[:-1] + b"\x00")

    monkeypatch.setattr(rebuild, "write_weights", otherwise)
    with pytest.raises(LineageError, match="rebuilt byte for byte when its weights were deleted"):
        rebuild_version(trained, 2, out=tmp_path / "again", actor="ann")
    assert not (tmp_path / "again").exists()
