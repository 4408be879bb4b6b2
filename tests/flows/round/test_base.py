"""The base model is loaded strictly before round 0 begins: what does not load leaves no run, no version and no copy."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from data_contracts.errors import CheckpointError, ConfigError
from flows.base_models.resolve import NANO, public_name
from flows.config.model import SkillstackConfig
from flows.lineage import VersionRef, read_history
from flows.lineage.card import original_base
from flows.lineage.registry.versions import raw_versions
from flows.round.base import describe_model, ensure_champion
from flows.workspace.workspace import open_workspace

Tensors = dict[str, torch.Tensor]


def rewritten(change: Callable[[Tensors], Tensors]) -> Callable[[Path], object]:
    return lambda file: save_file(change(load_file(file)), file, metadata={"format": "pt"})


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return Path(shutil.copytree(NANO, tmp_path / "base"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        pytest.param(rewritten(lambda t: dict(list(t.items())[:-1])), "lacks the tensor", id="a missing tensor"),
        pytest.param(rewritten(lambda t: {name: value * torch.nan for name, value in t.items()}), "not finite", id="not a number"),
        pytest.param(lambda file: file.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "Git LFS pointer", id="a pointer"),
        pytest.param(lambda file: file.write_bytes(file.read_bytes()[:-4]), "was cut off", id="a cut file"),
    ],
)
def test_a_base_that_does_not_load_leaves_the_lineage_untouched(
    base: Path, tmp_path: Path, damage: Callable[[Path], object], words: str
) -> None:
    damage(base / "model.safetensors")
    workspace = open_workspace(SkillstackConfig(base_model=str(base), bootstrap=True, state_dir=tmp_path / "state"))
    with pytest.raises(CheckpointError, match=words) as refused:
        ensure_champion(workspace)
    assert refused.value.where.startswith(str(base))
    assert refused.value.way_out
    lineage = workspace.lineage
    assert not read_history(lineage)
    assert not lineage.client.search_runs([lineage.experiment_id])
    assert not raw_versions(lineage)
    assert not workspace.stages.exists()


@pytest.mark.parametrize("relative", [False, True])
def test_the_lineage_knows_the_name_of_its_base(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, relative: bool) -> None:
    """A folder is named by its whole path: from elsewhere a relative one would mean nothing, or look like an id of the hub."""
    monkeypatch.chdir(base.parent)
    name = base.name if relative else str(base)
    workspace = open_workspace(SkillstackConfig(base_model=name, bootstrap=True, state_dir=tmp_path / "state", evaluation={"suites": []}))
    champion = ensure_champion(workspace)
    assert original_base(workspace.lineage, champion) == str(base.resolve())
    assert public_name("nano") == "nano"
    assert public_name("org/model") == "org/model"


def test_another_base_model_than_the_lineage_began_with_is_refused(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds go on from the champion: the new name would only be a false one on every page."""

    def of(name: str | Path) -> VersionRef:
        settings = {"bootstrap": True, "state_dir": tmp_path / "state", "evaluation": {"suites": []}}
        return ensure_champion(open_workspace(SkillstackConfig.model_validate({"base_model": str(name), **settings})))

    first = of(base)
    moved = base.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    assert [of(name).version for name in (base, "base", moved)] == [first.version] * 3, "gone, by its relative name, and elsewhere"
    rewritten(lambda tensors: {name: value + 0.5 for name, value in tensors.items()})(moved / "model.safetensors")
    for other in (moved, tmp_path / "nowhere", "org/other"):
        with pytest.raises(ConfigError, match=rf"is {other}, and this lineage began with {base}"):
            of(other)


def test_the_users_folder_is_copied_and_never_hard_linked(base: Path, tmp_path: Path) -> None:
    workspace = open_workspace(SkillstackConfig(base_model=str(base), state_dir=tmp_path / "state"))
    copy = describe_model(workspace, base).folder / "model"
    names = sorted(path.name for path in copy.iterdir())
    assert "model.safetensors" in names
    before = {name: (copy / name).read_bytes() for name in names}
    for name in names:
        assert (copy / name).stat().st_nlink == 1
        assert not (copy / name).samefile(base / name)
        with (base / name).open("r+b") as stream:  # in place, as an editor or a download that goes on writes
            stream.write(b"overwritten")
    assert {name: (copy / name).read_bytes() for name in names} == before
