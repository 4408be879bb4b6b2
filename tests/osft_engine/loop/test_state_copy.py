"""A run that was lost with its machine goes on from the copy of its state, to the same bytes; a copy that fails does not end a training."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from data_contracts.errors import ConfigError
from osft_engine.run import TrainRun
from osft_engine.train import train_candidate

MakeRun = Callable[..., TrainRun]
STEPS: dict[str, Any] = {"num_epochs": 2, "save_every_steps": 2, "save_every_seconds": 1e6, "learning_rate": 3e-3}


class LostError(Exception):
    pass


def _lose_at(run: TrainRun, step: int) -> None:
    """The machine goes away behind a step, with everything that it wrote."""

    def lose(event: dict[str, Any]) -> None:
        if event.get("step") == step:
            raise LostError

    with pytest.raises(LostError):
        train_candidate(run, on_event=lose)
    shutil.rmtree(run.out_dir)


def _steps(run: TrainRun) -> list[int]:
    steps: list[int] = []
    train_candidate(run, on_event=lambda event: steps.append(event["step"]) if event["event"] == "step" else None)
    return steps


@pytest.mark.parametrize("place", ["folder", "memory"])
def test_a_fresh_machine_goes_on_to_the_same_bytes(make_run: MakeRun, tmp_path: Path, place: str) -> None:
    url = (tmp_path / "states").as_uri() if place == "folder" else "memory://bucket/states/"
    whole, lost, again = make_run("whole", **STEPS), make_run("lost", state_url=url, **STEPS), make_run("again", state_url=url, **STEPS)
    _lose_at(lost, 5)
    assert _steps(again) == [5, 6]  # saved at 4, lost at 5
    train_candidate(whole)
    for name in ("model/model.safetensors", "update.safetensors", "ledger.safetensors"):
        assert (again.out_dir / name).read_bytes() == (whole.out_dir / name).read_bytes()
    system, root = fsspec.core.url_to_fs(url)
    assert not system.exists(root) or not system.ls(root), "a finished run leaves nothing there"


def test_another_run_does_not_take_the_state(make_run: MakeRun, tmp_path: Path) -> None:
    url = str(tmp_path / "states")
    _lose_at(make_run("lost", state_url=url, **STEPS), 5)
    assert _steps(make_run("other", state_url=url, **STEPS | {"learning_rate": 1e-3})) == [1, 2, 3, 4, 5, 6]
    assert _steps(make_run("again", state_url=url, **STEPS)) == [5, 6]


def test_what_lies_on_this_machine_goes_before_the_copy(make_run: MakeRun, tmp_path: Path) -> None:
    """The copy may be older: here it was lost."""
    run = make_run("cut", state_url=str(tmp_path / "states"), **STEPS)
    with pytest.raises(LostError):
        train_candidate(run, on_event=_raise_at(5))
    shutil.rmtree(tmp_path / "states")
    with pytest.raises(LostError):
        train_candidate(run, on_event=_raise_at(5))
    shutil.rmtree(run.out_dir)
    assert _steps(run) == [5, 6], "it was copied anew when the run went on"


def _raise_at(step: int) -> Callable[[dict[str, Any]], None]:
    def stop(event: dict[str, Any]) -> None:
        if event.get("step") == step:
            raise LostError

    return stop


def test_a_copy_that_fails_is_a_warning_and_the_training_ends_well(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put = MemoryFileSystem.put_file

    def failing(system: MemoryFileSystem, source: str, target: str, **more: Any) -> None:
        if not target.endswith("run.json.part"):
            raise OSError("quota exceeded")
        put(system, source, target, **more)

    monkeypatch.setattr(MemoryFileSystem, "put_file", failing)
    run = make_run(state_url="memory://full", **STEPS)
    assert train_candidate(run).model_sha256
    warned = [line for line in capsys.readouterr().err.splitlines() if "could not be written" in line]
    assert warned == ["warning: memory://full could not be written (OSError: quota exceeded); the state on this machine is up to date"]


@pytest.mark.parametrize("url", ["nowhere://bucket", "file:///proc/states"])
def test_a_place_that_cannot_be_used_is_refused_before_any_work(make_run: MakeRun, url: str) -> None:
    run = make_run(state_url=url)
    with pytest.raises(ConfigError, match=r"train\.state_url: '.*' cannot be used: .* \(give an fsspec URL"):
        train_candidate(run)
    assert not (run.out_dir / ".resume" / "bases.safetensors").exists()
