"""Versions: found by number, scored on their own page, verified on load."""

from __future__ import annotations

import pytest

from data_contracts.errors import LineageError, ManifestError
from data_contracts.manifests import Decision
from flows.lineage import connect, current_champion, find_version, read_ancestry, read_history


def test_a_version_knows_its_folders_digests_and_parent(grown):
    champion = current_champion(grown)
    assert (champion.version, champion.round, champion.skill, champion.method) == (3, 2, "second", "osft")
    assert champion.parent_version == 2
    assert (champion.checkpoint / "manifest.json").is_file()
    assert (champion.evaluation / "manifest.json").is_file()
    assert [reference.version for reference in read_ancestry(grown, 3)] == [1, 2, 3]


def test_scores_are_on_the_model_with_the_items_they_came_from(grown):
    model = grown.client.get_logged_model(find_version(grown, 2).model_id)
    scores = {metric.key: (metric.value, metric.dataset_name) for metric in model.metrics}
    assert scores["score/old"] == (0.9, "old")
    assert read_history(grown)[1].scores == {
        "old": 0.9,
        "piqa, 0-shot": 0.5,
        "first": 1.0,
    }  # MLflow would refuse that name


def test_a_rejected_round_is_registered_and_does_not_move_the_champion(grown, register):
    champion = current_champion(grown)
    _, rejected, _ = register(grown, "bad", 3, parent=champion.model_sha256, decision=Decision.BLOCK)
    assert current_champion(grown) == champion
    record = read_history(grown)[-1]
    assert (record.version, record.decision, record.was_champion, record.lost) == (rejected.version, "BLOCK", False, ("old",))


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
