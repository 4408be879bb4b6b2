"""Versions: found by number, scored on their own page, verified on load."""

from __future__ import annotations

import pytest

from data_contracts.errors import LineageError, ManifestError
from flows.lineage import connect, current_champion, find_version, read_ancestry


def test_a_version_knows_its_folders_digests_and_parent(grown):
    champion = current_champion(grown)
    assert (champion.version, champion.round, champion.skill, champion.method) == (3, 2, "second", "osft")
    assert champion.parent_version == 2
    assert champion.drop_file == "second.jsonl", "the file that the round was started with, from the project's folder"
    assert find_version(grown, 1).drop_file == ""
    assert (champion.checkpoint / "manifest.json").is_file()
    assert (champion.evaluation / "manifest.json").is_file()
    assert [reference.version for reference in read_ancestry(grown, 3)] == [1, 2, 3]


@pytest.mark.parametrize("damage", ["change", "remove", "other manifest"])
def test_a_champion_whose_files_changed_is_not_loaded(grown, damage):
    checkpoint = current_champion(grown).checkpoint
    weights = checkpoint / "model" / "model.safetensors"
    if damage == "change":
        weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    elif damage == "remove":
        weights.unlink()
    else:
        manifest = checkpoint / "manifest.json"
        manifest.write_text(manifest.read_text().replace('"osft"', '"lora"'))
    with pytest.raises((LineageError, ManifestError), match=r"changed|missing|not the one"):
        current_champion(grown)
    assert current_champion(grown, verify=False).version == 3


def test_an_unknown_version_says_which_exist(grown):
    with pytest.raises(LineageError, match=r"version 9.*\[1, 2, 3\]"):
        find_version(grown, 9)


def test_a_version_made_by_hand_is_named(grown):
    grown.client.create_model_version("tiny", "/somewhere/else")
    with pytest.raises(LineageError, match=r"version 4.*lacks the tags"):
        find_version(grown, 4)


def test_the_state_directory_can_be_moved(grown, state_dir, tmp_path):

    moved = tmp_path / "elsewhere"
    state_dir.rename(moved)
    lineage = connect(f"sqlite:///{moved}/mlflow.db", model_name="tiny", experiment="rounds", state_dir=moved)
    assert current_champion(lineage).checkpoint.is_relative_to(moved)
