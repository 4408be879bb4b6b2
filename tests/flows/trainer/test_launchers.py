"""One setting chooses where a training runs; whatever it is, it ends with its flow and gives back the engine's exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_contracts.validate import validate_drop
from flows.base_models.resolve import NANO
from flows.config.launch import LaunchConfig
from flows.config.model import SkillstackConfig, TrainerConfig
from flows.trainer.launchers import trainer_command
from flows.trainer.process import run_trainer
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


@pytest.mark.slow
def test_two_processes_under_torchrun_train_a_candidate(tmp_path: Path) -> None:
    from flows.demo.materials import write_drop
    from flows.text.renderer import TokenizerRenderer

    drop = write_drop("route", tmp_path / "route.jsonl", rows=120)
    config = SkillstackConfig.model_validate(
        {"train": {"num_epochs": 1, "effective_batch_size": 16, "num_threads": 1, "protect": "weights", "learning_rate": 1e-3}}
    )
    renderer = TokenizerRenderer(NANO, config.train)
    validate_drop(drop, tmp_path / "drop", skill="route", config=config.contract, renderer=renderer)
    run = TrainRun(base=NANO, drop=tmp_path / "drop", skill="route", out_dir=tmp_path / "out", config=config.train)
    events: list[dict[str, Any]] = []
    run_trainer(run, events.append, LaunchConfig(kind="torchrun", processes=2), TrainerConfig())
    assert (tmp_path / "out" / "manifest.json").exists()
    assert sum(event["event"] == "step" for event in events) > 1
