from __future__ import annotations

from pathlib import Path

import pytest

from data_contracts.errors import LineageError
from data_contracts.manifests import Manifest, file_ref, write_manifest
from flows.lineage.storage.collected import COLLECTED_FILE
from flows.workspace.code_digest import code_digest
from flows.workspace.stages import Stage, run_stage


class Stages:
    """Counts how often the work of a stage was really done."""

    def __init__(self, store: Path) -> None:
        self.store, self.built = store, 0

    def run(self, inputs: dict[str, object], *, fail: bool = False) -> Stage[Manifest]:
        def build(folder: Path) -> None:
            self.built += 1
            (folder / "data.txt").write_text(str(inputs))
            if fail:
                raise KeyboardInterrupt
            write_manifest(folder, Manifest(files={"data": file_ref(folder, folder / "data.txt")}))

        return run_stage(self.store, "work", inputs, Manifest, build, code=("data_contracts.digests",))


@pytest.fixture
def stages(tmp_path: Path) -> Stages:
    return Stages(tmp_path)


def test_the_same_inputs_find_the_finished_folder(stages: Stages) -> None:
    first, second = stages.run({"a": 1}), stages.run({"a": 1})
    assert (first.reused, second.reused, stages.built) == (False, True, 1)
    assert first.folder == second.folder
    assert first.manifest == second.manifest
    assert first.code == second.code == code_digest("data_contracts.digests")


def test_other_inputs_are_another_stage(stages: Stages) -> None:
    assert stages.run({"a": 1}).folder != stages.run({"a": 2}).folder
    assert stages.built == 2


def test_a_stage_cut_off_before_its_manifest_is_never_taken_for_whole(stages: Stages) -> None:
    with pytest.raises(KeyboardInterrupt):
        stages.run({"a": 1}, fail=True)
    again = stages.run({"a": 1})
    assert not again.reused
    assert stages.built == 2


def test_a_changed_file_is_noticed_set_aside_and_built_again(stages: Stages) -> None:
    folder = stages.run({"a": 1}).folder
    (folder / "data.txt").write_text("tampered")
    again = stages.run({"a": 1})
    assert not again.reused
    assert (again.folder / "data.txt").read_text() == str({"a": 1})
    assert (folder.with_suffix(".damaged-1") / "data.txt").read_text() == "tampered"


def test_a_missing_file_is_noticed(stages: Stages) -> None:
    folder = stages.run({"a": 1}).folder
    (folder / "data.txt").unlink()
    assert not stages.run({"a": 1}).reused


def test_a_version_whose_weights_gc_deleted_is_not_moved_away(stages: Stages) -> None:
    """Its folder has the only update that it can be rebuilt from, and its manifest is the one that is registered."""
    folder = stages.run({"a": 1}).folder
    (folder / "data.txt").unlink()
    (folder / COLLECTED_FILE).write_text("{}")
    with pytest.raises(LineageError, match=r"deleted by gc.*skillstack rebuild VERSION"):
        stages.run({"a": 1})
    assert stages.built == 1
    assert (folder / COLLECTED_FILE).is_file()
