"""The tree, its drawing, and fetching a model for serving."""

from __future__ import annotations

import pytest

from data_contracts.errors import LineageError, ManifestError
from data_contracts.manifests import CheckpointManifest, read_manifest
from flows.lineage import current_champion, pull_version


def test_pull_leaves_a_verified_model_and_can_be_repeated(grown, tmp_path):
    target = tmp_path / "serving"
    assert pull_version(grown, target).version == 3
    pulled = read_manifest(target, CheckpointManifest)
    assert pulled.model_sha256 == current_champion(grown).model_sha256
    assert {path.name for path in target.iterdir()} == {"model", "manifest.json"}
    pull_version(grown, target)
    assert pull_version(grown, tmp_path / "before", alias="previous").version == 2


def test_pull_refuses_a_changed_champion_and_leaves_nothing(grown, tmp_path):
    weights = current_champion(grown).checkpoint / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(ManifestError, match="changed"):
        pull_version(grown, tmp_path / "serving")
    assert list(tmp_path.glob("*serving*")) == []


def test_pull_does_not_write_over_what_is_there(grown, tmp_path):
    target = tmp_path / "serving"
    target.mkdir()
    (target / "note.txt").write_text("mine")
    with pytest.raises(LineageError, match="not empty"):
        pull_version(grown, target)
    pull_version(grown, tmp_path / "old", alias="previous")
    with pytest.raises(LineageError, match="holds another model"):
        pull_version(grown, tmp_path / "old")
    with pytest.raises(LineageError, match="does not exist"):
        pull_version(grown, tmp_path / "new", alias="no-such-alias")
    assert (target / "note.txt").read_text() == "mine"
