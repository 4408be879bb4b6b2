"""The loss is a mean over the tokens of the whole step: how the step is cut into passes changes nothing."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

import osft_engine.train
from osft_engine.compute.distributed import World
from osft_engine.loop import trainer
from osft_engine.loop.optim import NamedOptimizer
from osft_engine.loop.resume import ResumeFolder
from osft_engine.loop.trainer import Trainer
from osft_engine.run import TrainRun
from osft_engine.train import train_candidate

MakeRun = Callable[..., TrainRun]


def _losses(run: TrainRun) -> list[float]:
    found: list[float] = []
    train_candidate(run, on_event=lambda event: found.append(event["loss"]) if event["event"] == "step" else None)
    return found


def test_cutting_a_step_into_more_passes_changes_nothing(make_run: MakeRun) -> None:
    common: dict[str, Any] = {"protect": "weights", "learning_rate": 1e-2, "num_epochs": 2}
    whole = _losses(make_run(out="whole", max_tokens_per_batch=2048, batch_layout="packed", **common))
    for name, settings in {"few": {"max_tokens_per_batch": 64}, "packed": {"max_tokens_per_batch": 100, "batch_layout": "packed"}}.items():
        assert _losses(make_run(out=name, max_seq_len=64, **settings, **common)) == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize(("takes", "saved"), [(1.0, [60.0, 121.0, 182.0]), (30.0, [60.0])])
def test_saving_takes_a_twentieth_of_the_time_at_most(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, takes: float, saved: list[float]
) -> None:
    """A step takes 10 s by this clock, a save `takes`: a minute apart, a save of 30 s would take a third of the time."""
    clock, found = [0.0], []
    step = Trainer._one_step

    def one_step(self: Trainer, indices: Any) -> Any:
        clock[0] += 10.0
        return step(self, indices)

    def save_state(*_: Any, **__: Any) -> None:
        found.append(clock[0])
        clock[0] += takes

    monkeypatch.setattr(trainer, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(Trainer, "_one_step", one_step)
    monkeypatch.setattr(ResumeFolder, "save_state", save_state)
    steps = train_candidate(make_run(num_epochs=7, save_every_seconds=60.0)).summary.steps  # type: ignore[union-attr]
    assert 18 < steps < 24
    assert found[:-1] == saved  # and once at the end


def test_watched_rows_are_packed_once(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    packed: list[int] = []
    share = World.share

    def counted(self: World, examples: Any, **settings: Any) -> Any:
        packed.append(len(examples))
        return share(self, examples, **settings)

    monkeypatch.setattr(World, "share", counted)
    manifest = train_candidate(make_run(num_epochs=2, validation_share=0.5, validate_every_steps=1))
    assert manifest.summary is not None
    assert len(packed) == manifest.summary.steps + 1


def test_the_optimiser_is_gone_before_the_finished_model_is_measured(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its state takes twice the memory of the trained numbers, and measuring every layer's inputs takes more than a step does."""
    made: list[weakref.ref[NamedOptimizer]] = []
    begin, write = NamedOptimizer.__init__, osft_engine.train.write_outcome

    def remembered(self: NamedOptimizer, *given: Any) -> None:
        made.append(weakref.ref(self))
        begin(self, *given)

    def checked(*given: Any) -> Any:
        assert [each() for each in made] == [None]
        return write(*given)

    monkeypatch.setattr(NamedOptimizer, "__init__", remembered)
    monkeypatch.setattr(osft_engine.train, "write_outcome", checked)
    train_candidate(make_run(num_epochs=1))
