"""Two processes with FSDP2 on the CPU end where one process ends, and one process goes on where two stopped."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from osft_engine.compute.distributed import World
from osft_engine.data.batches import MicroBatch
from osft_engine.data.examples import Example
from osft_engine.run import TrainRun
from osft_engine.train import train_candidate

MakeRun = Callable[..., TrainRun]


def _train_as(rank: int, port: int, run: TrainRun, stop_after: int | None) -> None:
    """What torchrun would start: the same environment, the same call. Exits after `stop_after` steps without a save."""
    torch.set_num_threads(1)  # the parent's OpenMP threads are not in a forked child, which would wait for them for ever
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}
    if stop_after is not None:
        from osft_engine.loop.trainer import Trainer

        step = Trainer._one_step

        def stopping(trainer: Trainer, indices: list[int]) -> tuple[float, float]:
            if trainer.progress.step == stop_after:
                os._exit(9)
            return step(trainer, indices)

        Trainer._one_step = stopping  # type: ignore[method-assign, assignment]
    train_candidate(run)
    os._exit(0)  # gloo's threads outlive the work; there is nothing left to clean up


def _two_processes(run: TrainRun, stop_after: int | None = None) -> list[int | None]:
    """Forked rather than started: two fresh interpreters would spend most of the test on imports."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_train_as, args=(rank, port, run, stop_after)) for rank in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(timeout=300)
    return [child.exitcode for child in children]


def _losses(run: TrainRun) -> list[float]:
    lines = (run.out_dir / "metrics.jsonl").read_text().splitlines()
    return [event["loss"] for event in map(json.loads, lines) if event["event"] == "step"]


@pytest.mark.parametrize(
    "method",
    [
        {"protect": "weights", "train_other": ("norm", "embed"), "eps": 1e-6},  # else rounding moves what has next to no gradient
        {"protect": "activations"},
        {"method": "full", "learning_rate": 1e-3},
    ],
)
def test_two_processes_train_what_one_trains(make_run: MakeRun, method: dict[str, Any]) -> None:
    settings = {"learning_rate": 1e-2, "warmup_steps": 0} | method
    alone, together = make_run(out="alone", **settings), make_run(out="together", **settings)
    assert _two_processes(together) == [0, 0]
    train_candidate(alone)
    assert _losses(together) == pytest.approx(_losses(alone), rel=1e-4)
    one, two = (load_file(run.out_dir / "model" / "model.safetensors") for run in (alone, together))
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=2e-4)


def test_one_process_goes_on_where_two_stopped(make_run: MakeRun) -> None:
    settings = {"protect": "weights", "num_epochs": 2, "learning_rate": 1e-2, "save_every_steps": 2, "save_every_seconds": 1e6}
    whole, cut = make_run(out="whole", **settings), make_run(out="cut", **settings)
    assert _two_processes(cut, stop_after=4) == [9, 9]
    train_candidate(whole)
    steps: list[int] = []
    train_candidate(cut, on_event=lambda event: steps.append(event["step"]) if event["event"] == "step" else None)
    assert steps == [5, 6]
    assert _losses(cut) == pytest.approx(_losses(whole), rel=1e-4)


@pytest.mark.parametrize("lengths", [(5, 5, 5, 5), (12, 3, 4), (7,), (3, 9, 9, 2, 8)])
def test_shares_cover_every_example_once_in_equally_many_passes(lengths: tuple[int, ...]) -> None:
    examples = [Example((1,) * length, (False, *[True] * (length - 1)), f"row:{n}") for n, length in enumerate(lengths)]

    def share(rank: int) -> list[tuple[MicroBatch, float]]:
        return World(rank, 2).share(examples, max_tokens=12, layout="packed")

    first, second = share(0), share(1)
    assert len(first) == len(second)
    counted = [origin for batch, weight in first + second if weight for origin in batch.origins]
    assert sorted(counted) == sorted(example.origin for example in examples)
