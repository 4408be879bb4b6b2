"""What doctor says of the machine itself, without servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_contracts import devices
from data_contracts.errors import SkillstackError
from evals.config import EvaluationConfig
from flows.config.model import SkillstackConfig
from flows.service.doctor import _calibration, _device, _suites
from osft_engine.config import TrainConfig


def test_doctor_says_which_device_was_chosen_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(devices.choose_device, "__kwdefaults__", {"dev": tmp_path, "platform": "linux"})
    config = SkillstackConfig(state_dir=tmp_path / "state")
    assert _device(config).startswith(f"cpu: {tmp_path} has no device file of an accelerator")
    (tmp_path / "dxg").touch()
    assert _device(config).startswith(f"cpu: {tmp_path / 'dxg'} is there, but torch cannot use it")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert _device(config) == f"cuda: {tmp_path / 'dxg'} is there and torch can use it"
    apart = config.model_copy(update={"train": TrainConfig(device="cpu"), "evaluation": EvaluationConfig(device="cuda:1")})
    assert _device(apart) == "training on cpu (as configured); evaluation on cuda:1 (as configured)"


def test_doctor_warns_of_what_the_first_round_would_lack(tmp_path: Path) -> None:
    """No calibration text and no general suites: the first round would lose the base's abilities, and nobody would see it."""
    config = SkillstackConfig(state_dir=tmp_path / "state")
    assert _calibration(config).startswith("warning: `calibration` is not set")
    assert "`skillstack init` writes" in _calibration(config)
    with pytest.raises(SkillstackError, match=r"has no general suites.*`skillstack init` writes them"):
        _suites(config)
    text = tmp_path / "calibration.jsonl"
    text.touch()
    assert _calibration(config.model_copy(update={"calibration": text})) == str(text)
