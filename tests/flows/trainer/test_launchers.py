"""One setting chooses where a training runs; whatever it is, it ends with its flow and gives back the engine's exit code."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from data_contracts.validate import validate_drop
from flows.base_models.resolve import NANO
from flows.config.launch import LaunchConfig
from flows.config.model import SkillstackConfig, TrainerConfig
from flows.trainer.launchers import trainer_command
from flows.trainer.process import run_trainer
from osft_engine.loop.stopping import TrainingStoppedError
from osft_engine.run import TrainRun


def test_one_setting_chooses_the_command() -> None:
    run = Path("/state/run.json")
    assert trainer_command(LaunchConfig(), run, parent=7)[1:] == ["-m", "osft_engine", str(run), "--parent", "7"]
    many = trainer_command(LaunchConfig(kind="torchrun", processes=4), run, parent=7)
    assert many[many.index("--nproc-per-node") + 1] == "4"
    assert many[-3:] == ["-m", "osft_engine", str(run)]
    job = trainer_command(LaunchConfig(kind="kubernetes", processes=2), run, parent=7)
    assert LaunchConfig.model_validate_json(job[-2]).processes == 2
    assert SkillstackConfig.model_validate({"launch": {"kind": "torchrun", "processes": 8}}).launch.processes == 8


def _run(folder: Path, out: str, **train: Any) -> TrainRun:
    from flows.demo.materials import write_drop
    from flows.text.renderer import TokenizerRenderer

    settings = {"num_epochs": 1, "effective_batch_size": 16, "num_threads": 1, "protect": "weights", "learning_rate": 1e-3}
    config = SkillstackConfig.model_validate({"train": settings | train})
    if not (folder / "drop").exists():
        drop = write_drop("route", folder / "route.jsonl", rows=120)
        validate_drop(drop, folder / "drop", skill="route", config=config.contract, renderer=TokenizerRenderer(NANO, config.train))
    return TrainRun(base=NANO, drop=folder / "drop", skill="route", out_dir=folder / out, config=config.train)


@pytest.mark.slow
def test_two_processes_under_torchrun_train_a_candidate(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    run_trainer(_run(tmp_path, "out"), events.append, LaunchConfig(kind="torchrun", processes=2), TrainerConfig())
    assert (tmp_path / "out" / "manifest.json").exists()
    assert sum(event["event"] == "step" for event in events) > 1


@pytest.mark.slow
def test_a_signal_to_torchrun_saves_the_step_and_the_same_run_goes_on(tmp_path: Path) -> None:
    """The machine's notice reaches the launcher and not the flow: torchrun itself exits with 1, which would be a failed training."""
    launch, train = LaunchConfig(kind="torchrun", processes=2), {"num_epochs": 6, "save_every_steps": 0, "save_every_seconds": 3600.0}
    asked: list[int] = []

    def stop_at_the_third(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] >= 3 and not asked:
            asked.append(event["step"])
            (launcher,) = map(int, Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split())
            os.kill(launcher, signal.SIGTERM)

    cut = _run(tmp_path, "cut", **train)
    with pytest.raises(TrainingStoppedError):
        run_trainer(cut, stop_at_the_third, launch, TrainerConfig())
    assert (cut.out_dir / ".resume" / "state.safetensors").is_file()
    events: list[dict[str, Any]] = []
    run_trainer(cut, events.append, launch, TrainerConfig())
    assert next(event["step"] for event in events if event["event"] == "resumed") >= asked[0]
    whole = _run(tmp_path, "whole", **train)
    run_trainer(whole, events.append, launch, TrainerConfig())
    for name in ("model/model.safetensors", "update.safetensors"):
        assert (cut.out_dir / name).read_bytes() == (whole.out_dir / name).read_bytes(), name
