"""State of a run on disk: one trainer per folder, and a state that reads back."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from data_contracts.errors import TrainingError
from osft_engine.loop.resume import LOCK_NAME, Progress, ResumeFolder, only_trainer
from osft_engine.memory.subspace_memory import SubspaceMemory
from osft_engine.run import TrainRun
from osft_engine.subspace.protection import AllowedUpdate
from osft_engine.train import train_candidate

MakeRun = Callable[..., TrainRun]


def test_two_trainers_never_write_into_one_folder(make_run: MakeRun) -> None:
    run = make_run()
    refusal = pytest.raises(TrainingError, match=rf"another trainer is running here \(process {os.getpid()}\)")
    with only_trainer(run.out_dir), refusal, only_trainer(run.out_dir, 0.3):
        raise AssertionError("both hold it")
    assert train_candidate(run).model_sha256


def test_the_state_is_read_back_with_the_random_state(tmp_path: Path) -> None:
    folder = ResumeFolder(tmp_path, "digest", {"seed": 1})
    assert folder.load_state() is folder.load_memory() is folder.load_bases() is folder.load_best() is None
    progress = Progress(step=7, losses=[2.0, 1.5], loss_tokens=40, tokens=90, seconds=1.25, best_loss=1.4, best_step=6)
    torch.manual_seed(5)
    folder.save_state({"w": torch.arange(3.0)}, {"w.exp_avg": torch.ones(3)}, progress)
    expected = torch.rand(4)
    torch.manual_seed(9)
    state = ResumeFolder(tmp_path, "digest", {"seed": 1}).load_state()
    assert state is not None
    parameters, optimizer, found = state
    assert (parameters["w"].tolist(), optimizer["w.exp_avg"].tolist(), found) == ([0.0, 1.0, 2.0], [1.0] * 3, progress)
    assert torch.equal(torch.rand(4), expected)


def test_bases_and_memory_are_read_back(tmp_path: Path) -> None:
    folder = ResumeFolder(tmp_path, "digest", {})
    folder.save_bases({"q": AllowedUpdate((3, 4), None, torch.eye(4)[:, :2], None, 2, 2)})
    folder.save_memory(SubspaceMemory(("base",), {"q": torch.eye(4)}, {"q": "q"}))
    bases, memory = folder.load_bases(), folder.load_memory()
    assert bases is not None
    assert memory is not None
    assert torch.equal(bases["q"].right, torch.eye(4)[:, :2])  # type: ignore[arg-type]
    assert memory.rounds == ("base",)
    folder.remove()
    assert not folder.folder.exists()


def test_another_run_may_not_take_over_work_but_may_correct_a_run_that_did_none(tmp_path: Path) -> None:
    ResumeFolder(tmp_path, "first", {"learning_rate": 1.0})
    corrected = ResumeFolder(tmp_path, "second", {"learning_rate": 2.0})
    assert corrected.changed == {"learning_rate": 2.0}
    corrected.save_state({}, {}, Progress())
    with pytest.raises(TrainingError, match="holds the state of another run, which differs in learning_rate"):
        ResumeFolder(tmp_path, "third", {"learning_rate": 3.0})
    with pytest.raises(TrainingError, match="differs in its base, drop, parent or calibration"):
        ResumeFolder(tmp_path, "third", {"learning_rate": 2.0})


def test_a_process_that_does_not_lead_writes_no_state(tmp_path: Path) -> None:
    folder = ResumeFolder(tmp_path, "digest", {}, claim=False)
    folder.save_state({"w": torch.ones(1)}, {}, Progress(), leads=False)
    folder.save_best({"w": torch.ones(1)}, leads=False)
    assert not folder.folder.exists()


def test_the_lock_goes_with_the_run_and_other_processes_of_it_do_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with only_trainer(tmp_path, 0.1):
        assert (tmp_path / LOCK_NAME).read_text().strip() == str(os.getpid())
        monkeypatch.setenv("RANK", "1")
        with only_trainer(tmp_path, 0.1):
            pass
    assert not (tmp_path / LOCK_NAME).exists()
