"""What a sweep costs is said before it begins, from the numbers of the drop and of the champion's own training."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_contracts.manifests import CheckpointManifest, FileRef, TrainingSummary, write_manifest
from flows.sweep.cost import cost_lines
from flows.sweep.frontier import Setting
from osft_engine import config
from osft_engine.config import TrainConfig


def champion(folder: Path, *, trained: bool) -> Path:
    summary = TrainingSummary(
        steps=50, examples=100, loss_tokens=1, dropped_too_long=0, first_loss=1.0, final_loss=1.0, seconds=100.0, tokens_per_second=1.0,
        peak_memory_bytes=1, trainable_parameters=1,
    )  # fmt: skip
    files = {"model": FileRef(path="model", sha256="0", bytes=250_000_000)}
    folder.mkdir()
    write_manifest(folder, CheckpointManifest(files=files, method="osft", model_sha256="0", summary=summary if trained else None))
    return folder


SETTINGS = [Setting(ratio=0.25, learning_rate=rate, passes=passes) for rate in (3e-4, 1e-3) for passes in (4, 12)]


SETTING = Setting(ratio=0.25, learning_rate=1e-3, passes=None)


def test_trainings_steps_time_and_disk(tmp_path: Path) -> None:
    """80 rows in batches of 8 are 10 steps a pass: 2 x (40 + 120) steps, at two seconds each."""
    [line] = cost_lines(SETTINGS, (0.5, 1.0), 80, TrainConfig(), champion(tmp_path / "champion", trained=True))
    time = "11 min of training at the pace of the champion's own"
    assert line == f"this sweep: 4 trainings of 320 steps in all, {time}; 8 evaluations; about 2 GB of disk"
    [line] = cost_lines(SETTINGS, (1.0,), 80, TrainConfig(), champion(tmp_path / "base", trained=False))
    assert line == "this sweep: 4 trainings of 320 steps in all; 4 evaluations; about 1 GB of disk"


def test_shares_of_the_rounds_own_update_train_nothing_more(tmp_path: Path) -> None:
    [line] = cost_lines((), (0.5, 1.0), 80, TrainConfig(), tmp_path)
    assert line.startswith("this sweep: 2 evaluations of shares of the round's own update")


def test_a_training_that_may_stop_early_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """450 of 500 rows in batches of 8 are 57 steps a pass, and 53 passes are the first to make 3,000."""
    monkeypatch.setattr(config, "STEPS_TO_LEARN", 500)
    [line] = cost_lines([SETTING], (1.0,), 500, TrainConfig(), champion(tmp_path / "base", trained=False))
    assert f"1 trainings of at most {53 * 57:,} steps" in line
    assert TrainConfig(num_epochs=2).most_steps(500) == (2 * 63, False)


def test_replayed_rows_count_where_there_are_earlier_skills() -> None:
    """300 rows beside 100 of earlier rounds, of which a buffer of 40 has only 40."""
    replaying = TrainConfig(num_epochs=2, replay_share=0.25)
    assert [replaying.most_steps(300, earlier=each)[0] for each in (False, True)] == [2 * 38, 2 * 50]
    assert replaying.model_copy(update={"buffer_size": 40}).most_steps(300, earlier=True)[0] == 2 * 43
