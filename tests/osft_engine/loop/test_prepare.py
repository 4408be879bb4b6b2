"""What is settled before the first step: which cache entries are shared, what several processes refuse, what the buffer hands on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_contracts.errors import ConfigError
from osft_engine import train
from osft_engine.checkpoint.read import load_model
from osft_engine.compute.distributed import World
from osft_engine.loop.prepare import Scene, attach_method
from osft_engine.loop.resume import ResumeFolder
from osft_engine.run import TrainRun
from osft_engine.train import train_candidate

MakeRun = Callable[..., TrainRun]


@pytest.mark.parametrize("protect", ["weights", "weights_block"])
def test_directions_are_shared_between_runs_that_read_the_weights_alike(
    make_run: MakeRun, make_drop: Callable[..., Path], tmp_path: Path, protect: str
) -> None:
    cache, drop = tmp_path / "cache", make_drop(8)

    def trained(out: str, dtype: str, cached: bool = True) -> tuple[str, int]:
        run = make_run(out, drop, protect=protect, dtype=dtype, learning_rate=1e-2, warmup_steps=0)
        manifest = train_candidate(run.model_copy(update={"cache_dir": cache} if cached else {}))
        return manifest.model_sha256, len(list(cache.glob("directions-*")))

    cold, _ = trained("cold", "float32", cached=False)
    assert trained("other", "bfloat16")[1] == 1
    assert trained("first", "float32") == (cold, 2)  # not in the directions of the weights rounded to bfloat16
    assert trained("warm", "float32") == (cold, 2)
    assert trained("auto", "auto") == (cold, 2)  # float32 on a CPU


class _Silent(World):
    """Two processes of which this is the second, without the first."""

    def barrier(self) -> None:
        """Nobody else is there to wait for."""


def _scene(run: TrainRun, world: World) -> Scene:
    return Scene(run, load_model(run.base, run.config), None, "", None, (), 100.0, world)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"protect": "weights_block"}, "weights_block: trains a dense update.*run it without torchrun"),
    ({"method": "lora"}, "lora: is a baseline for one process"),
    (
        {"protect": "weights", "train_other": ("norm",), "dtype": "bfloat16"},
        "train_other: trains parameters in bfloat16 .*set dtype: float32",
    ),
]


@pytest.mark.parametrize(("config", "message"), REFUSED, ids=["block", "lora", "others"])
def test_what_cannot_be_sharded_is_refused_though_its_directions_are_at_hand(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], message: str
) -> None:
    """One process may, and is cut off; of several, none goes on with what it left; one does."""
    run = make_run(save_every_steps=1, **config)

    def stop(event: dict[str, Any]) -> None:
        if event.get("step") == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_candidate(run, on_event=stop)
    with monkeypatch.context() as together:
        together.setattr(train, "current_world", lambda: _Silent(1, 2))
        with pytest.raises(ConfigError, match=message):
            train_candidate(run)
    events: list[dict[str, Any]] = []
    train_candidate(run, on_event=events.append)
    assert [event["step"] for event in events if event["event"] == "resumed"] == [1]


def test_a_node_on_another_disk_is_told_so(make_run: MakeRun, tmp_path: Path) -> None:
    elsewhere = ResumeFolder(tmp_path / "elsewhere", "digest", {}, claim=False)
    with pytest.raises(ConfigError, match=r"elsewhere.*holds no directions here.*a disk that all nodes share"):
        attach_method(_scene(make_run(protect="weights"), _Silent(1, 2)), elsewhere)
