"""The tree, its drawing, and fetching a model for serving."""

from __future__ import annotations

import json

import pytest

from data_contracts.errors import LineageError, ManifestError
from data_contracts.manifests import CheckpointManifest, Decision, read_manifest
from flows.lineage import current_champion, find_version, pull_version, read_tree, roll_back


def test_the_tree_follows_what_was_built_on_what(grown, register):
    first = find_version(grown, 2)
    register(grown, "bad", 3, parent=current_champion(grown).model_sha256, decision=Decision.BLOCK)
    roll_back(grown, 2, reason="complaints", actor="ann")
    register(grown, "other", 2, parent=first.model_sha256)
    tree = read_tree(grown)
    assert [record.version for record in tree.children(None)] == [1]
    assert [record.skill for record in tree.children(2)] == ["second", "other"]
    text = "\n".join(tree.lines())
    assert text.count("CHAMPION") == 1
    assert "rollback by ann: complaints" in text
    assert [line.lstrip(" │├└─").split(" · ")[0] for line in tree.lines() if " · round " in line] == [
        f"version {n}" for n in (1, 2, 3, 4, 5)
    ]
    actions = [entry["action"] for entry in json.loads(tree.model_dump_json())["ledger"]]
    assert actions[-2:] == ["rollback", "register"]  # `other` was registered after it


def test_dot_names_every_version_and_edge_and_escapes(grown, register):
    register(grown, 'quo"te', 3, parent=current_champion(grown).model_sha256)
    dot = read_tree(grown).dot()
    assert [line.strip() for line in dot.splitlines() if "->" in line] == ["v1 -> v2;", "v2 -> v3;", "v3 -> v4;"]
    assert 'quo\\"te' in dot
    assert dot.count("{") == dot.count("}") == 1


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
