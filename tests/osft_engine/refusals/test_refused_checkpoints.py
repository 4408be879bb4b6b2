"""A checkpoint whose bytes are not those of its manifest is refused before anything is written, and the file is named.

Every tampering keeps the file's size and its form: it loads, and only its digest tells.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from data_contracts.errors import CheckpointError, ManifestError, TrainingError
from osft_engine.checkpoint.adapter import export_adapter
from osft_engine.checkpoint.read import describe_base
from osft_engine.rescale import scale_candidate
from osft_engine.run import TrainRun
from osft_engine.train import train_candidate

MakeRun = Callable[..., TrainRun]

WEIGHTS = "model/model.safetensors"


def _tamper(file: Path) -> None:
    """Change one bit of the last byte but one, which in the files here is content and no structure.

    The file is replaced, not written into: a hard link to it elsewhere stays whole.
    """
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.unlink()
    file.write_bytes(bytes(content))


def _changed(file: Path) -> str:
    return re.escape(f"{file}: has changed since its manifest was written")


@pytest.fixture
def parent(make_run: MakeRun) -> TrainRun:
    """A finished first round, with weights, subspace memory, buffer and update."""
    run = make_run("parent")
    train_candidate(run)
    return run


def test_a_parent_that_was_tampered_with_is_refused_by_the_name_of_its_file(make_run: MakeRun, parent: TrainRun) -> None:
    second = make_run("second", base=parent.out_dir / "model", parent=parent.out_dir)
    for name in (WEIGHTS, "model/tokenizer.json", "ledger.safetensors", "buffer.jsonl"):
        file = parent.out_dir / name
        whole = file.read_bytes()
        _tamper(file)
        with pytest.raises(ManifestError, match=_changed(file)):
            train_candidate(second)
        assert not second.out_dir.exists(), name
        file.write_bytes(whole)
    tampered = parent.out_dir / WEIGHTS
    _tamper(tampered)
    assert load_file(tampered).keys()  # it loads: nothing but the digest stands between it and the next round
    tampered.unlink()
    with pytest.raises((ManifestError, CheckpointError), match="model"):
        train_candidate(second)
    assert not second.out_dir.exists()


def test_a_base_that_was_tampered_with_after_round_zero_is_refused(make_run: MakeRun, base_folder: Path, tmp_path: Path) -> None:
    """The digest of a base is given by the checkpoint that stands for round 0, whose model folder it is or is a copy of."""
    base = tmp_path / "base"
    shutil.copytree(base_folder, base)  # round 0 is made of hard links, and the session's base must stay whole
    describe_base(base, tmp_path / "round-0")
    run = make_run(base=tmp_path / "round-0" / "model", parent=tmp_path / "round-0")
    _tamper(tmp_path / "round-0" / WEIGHTS)
    with pytest.raises(ManifestError, match=_changed(tmp_path / "round-0" / WEIGHTS)):
        train_candidate(run)
    assert not run.out_dir.exists()

    describe_base(base, tmp_path / "round-0")
    elsewhere = make_run(base=base, parent=tmp_path / "round-0")
    _tamper(base / "model.safetensors")
    with pytest.raises(CheckpointError, match=re.escape(f"{base}: is not the model of the parent {tmp_path / 'round-0'}")):
        train_candidate(elsewhere)
    assert not elsewhere.out_dir.exists()


def test_nothing_is_made_of_a_candidate_or_a_base_that_was_tampered_with(parent: TrainRun, tmp_path: Path) -> None:
    base = tmp_path / "copied-base"
    shutil.copytree(parent.base, base)
    _tamper(base / "model.safetensors")
    with pytest.raises(CheckpointError, match=re.escape(f"{base}: is not the model that this checkpoint was trained from")):
        scale_candidate(parent.out_dir, base, tmp_path / "scaled", 0.5)
    for name in (WEIGHTS, "update.safetensors"):
        file = parent.out_dir / name
        whole = file.read_bytes()
        _tamper(file)
        with pytest.raises(ManifestError, match=_changed(file)):
            scale_candidate(parent.out_dir, parent.base, tmp_path / "scaled", 0.5)
        with pytest.raises(ManifestError, match=_changed(file)):
            export_adapter(parent.out_dir, tmp_path / "adapter", base=str(parent.base))
        file.write_bytes(whole)
    assert not (tmp_path / "scaled").exists()
    assert not (tmp_path / "adapter").exists()


def test_a_base_that_changed_while_a_run_was_cut_off_is_not_trained_on(make_run: MakeRun, base_folder: Path, tmp_path: Path) -> None:
    """The state of a cut-off run knows its base by digest, and is kept for the day when the base is back."""
    base = tmp_path / "base"
    shutil.copytree(base_folder, base)
    run = make_run(base=base, save_every_steps=1)

    def stop(event: dict[str, object]) -> None:
        if event.get("step") == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_candidate(run, on_event=stop)
    whole = (base / "model.safetensors").read_bytes()
    _tamper(base / "model.safetensors")
    with pytest.raises(TrainingError, match=r"holds the state of another run, which differs in its base, drop, parent or calibration"):
        train_candidate(run)
    assert not (run.out_dir / "manifest.json").exists()
    assert not (run.out_dir / "model").exists()

    (base / "model.safetensors").write_bytes(whole)
    steps: list[object] = []
    train_candidate(run, on_event=lambda event: steps.append(event["step"]) if event["event"] == "step" else None)
    assert steps == [2, 3]  # from the state of step 1
