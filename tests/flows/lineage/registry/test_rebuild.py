"""Weights come back from the base and the stored updates."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_contracts.errors import CheckpointError, ManifestError
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
