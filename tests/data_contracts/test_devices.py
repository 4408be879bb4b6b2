"""`device: auto` asks torch wherever an accelerator can be, and nowhere else: with made-up /dev folders of each kind of machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from data_contracts.devices import accelerator_files, choose_device

PLAIN = ("null", "tty", "shm", "kmsg")
MACHINES = {
    "NVIDIA": ("nvidiactl", "nvidia0", "nvidia-uvm"),
    "NVIDIA without nvidiactl": ("nvidia3",),
    "WSL2": ("dxg",),
    "ROCm": ("kfd",),
    "Jetson": ("nvhost-ctrl", "nvhost-gpu", "nvmap"),
}


def _dev(folder: Path, names: tuple[str, ...]) -> Path:
    for name in (*PLAIN, *names):
        (folder / name).touch()
    return folder


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("usable", [True, False])
def test_torch_is_asked_where_a_driver_made_its_file(machine: str, usable: bool, tmp_path: Path) -> None:
    dev = _dev(tmp_path, MACHINES[machine])
    chosen = choose_device("auto", lambda: usable, dev=dev, platform="linux")
    assert chosen.device == ("cuda" if usable else "cpu")
    assert chosen.reason.startswith(f"{dev / accelerator_files(dev)[0]} is there")
    assert ("cannot use it" in chosen.reason) is not usable


def test_torch_is_not_asked_where_there_is_no_such_file(tmp_path: Path) -> None:
    def asked() -> bool:
        raise AssertionError("torch was asked")

    chosen = choose_device("auto", asked, dev=_dev(tmp_path, ()), platform="linux")
    assert chosen.device == "cpu"
    assert "no device file" in chosen.reason
    assert choose_device("auto", asked, dev=tmp_path / "no such folder", platform="linux").device == "cpu"
    assert choose_device("auto", asked, dev=_dev(tmp_path, ("nvidiactl",)), platform="darwin").device == "cpu"


def test_torch_is_always_asked_on_windows(tmp_path: Path) -> None:
    assert choose_device("auto", lambda: True, dev=tmp_path / "none", platform="win32").device == "cuda"


@pytest.mark.parametrize("named", ["cpu", "cuda:1", "mps"])
def test_a_named_device_is_taken_as_it_is(named: str, tmp_path: Path) -> None:
    chosen = choose_device(named, lambda: False, dev=_dev(tmp_path, ("nvidiactl",)), platform="linux")
    assert (chosen.device, chosen.reason) == (named, "as configured")


def test_training_and_evaluation_follow_one_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from data_contracts import devices
    from evals.config import EvaluationConfig
    from evals.harness.fill import evaluation_device
    from osft_engine.checkpoint.read import pick_device
    from osft_engine.config import TrainConfig

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for names in ((), ("dxg",)):
        folder = tmp_path / "-".join(("dev", *names))
        folder.mkdir()
        rule = devices.choose_device.__kwdefaults__ | {"dev": _dev(folder, names), "platform": "linux"}
        monkeypatch.setattr(devices.choose_device, "__kwdefaults__", rule)
        expected = "cuda" if names else "cpu"
        assert (evaluation_device(EvaluationConfig()).device, pick_device(TrainConfig()).type) == (expected, expected)


def test_the_rule_loads_no_torch() -> None:
    """In a process of its own, on a machine that has no accelerator."""
    program = (
        "import sys; from pathlib import Path; from data_contracts.devices import choose_device; "
        "print(choose_device('auto', lambda: __import__('torch').cuda.is_available(), dev=Path('none'), platform='linux').device, "
        "'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split() == ["cpu", "False"]
