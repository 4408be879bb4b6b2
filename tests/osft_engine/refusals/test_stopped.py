"""A run that cannot go on keeps the last good state, says what to change, and goes on from there once that is changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from data_contracts.errors import ConfigError, TrainingError
from data_contracts.rendering.examples import Answer
from osft_engine import train
from osft_engine.data.examples import Example
from osft_engine.loop.optim import NamedOptimizer
from osft_engine.loop.trainer import Trainer
from osft_engine.run import TrainRun
from osft_engine.train import split_rows, train_candidate

MakeRun = Callable[..., TrainRun]


def _saved(run: TrainRun) -> dict[str, torch.Tensor]:
    tensors = load_file(run.out_dir / ".resume" / "state.safetensors")
    return {name: value for name, value in tensors.items() if name.startswith("parameter:")}


def _stops(run: TrainRun, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        train_candidate(run)
    assert not (run.out_dir / "manifest.json").exists()
    assert not (run.out_dir / "model").exists()


@pytest.mark.parametrize("rows", [8, 24])
def test_a_step_that_leaves_no_finite_number_never_becomes_state_or_candidate(
    make_run: MakeRun, make_drop: Callable[..., Path], rows: int
) -> None:
    """One step in all, so that no later loss would tell; and three, of which the first is spoiled."""
    run = make_run(drop=make_drop(rows, f"drop-{rows}"), method="full", learning_rate=1e38, warmup_steps=0, save_every_steps=1)
    _stops(run, rf"step 1 of {rows // 8}: left model\.\S+ not finite.*lower learning_rate")
    assert not (run.out_dir / ".resume" / "state.safetensors").exists()


def test_a_loss_that_is_not_finite_leaves_the_state_of_the_step_before(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    real = train.Trainer._one_step

    def third_is_broken(self: Trainer, indices: Any) -> tuple[float, float]:
        steps.append(self.progress.step)
        if self.progress.step == 2:
            self._require_finite(float("nan"), "loss", ("clean.jsonl:7",))
        return real(self, indices)

    with monkeypatch.context() as broken:
        broken.setattr(Trainer, "_one_step", third_is_broken)
        _stops(make_run(), r"step 3 of 3: the loss is nan on clean\.jsonl:7")
    assert all(bool(torch.isfinite(value).all()) for value in _saved(make_run()).values())
    events: list[dict[str, Any]] = []
    train_candidate(make_run(), on_event=events.append)
    assert [event["step"] for event in events if event["event"] in ("resumed", "step")] == [2, 3]


def test_a_validation_loss_that_is_not_finite_stops_the_run(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "_held_out_loss", lambda self: float("nan"))
    _stops(make_run(validation_share=0.25), r"the validation loss is nan on .*clean\.jsonl:\d+")


def test_memory_that_runs_out_in_the_optimiser_is_explained_too(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(NamedOptimizer, "step", no_room)
    _stops(make_run(), "out of memory.*lower max_tokens_per_batch")


def test_a_row_that_no_pass_can_hold_is_refused_before_the_model_is_loaded(
    make_run: MakeRun, make_drop: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*_: Any) -> None:
        raise AssertionError("the model was loaded first")

    rows = [{"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!" * count}]} for count in (3, 80)]
    monkeypatch.setattr(train, "load_model", loaded)
    message = r"clean\.jsonl:2: has \d+ tokens, more than the 64 of one batch.*raise max_tokens_per_batch"
    _stops(make_run(drop=make_drop(rows, "long"), max_tokens_per_batch=64), message)


def test_a_refused_run_may_be_corrected_in_the_same_folder(make_run: MakeRun) -> None:
    with pytest.raises(ConfigError, match=r"0\.01 of 24 rows is 0"):
        train_candidate(make_run(validation_share=0.01))
    corrected = make_run(validation_share=0.25)
    assert train_candidate(corrected).config["validation_share"] == 0.25
    with pytest.raises(ConfigError, match="is where the candidate would be written"):
        train_candidate(make_run(base=corrected.out_dir / "model"))


def test_a_run_that_was_too_large_goes_on_with_smaller_passes(make_run: MakeRun) -> None:
    def stop(event: dict[str, object]) -> None:
        if event.get("step") == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_candidate(make_run(save_every_steps=1), on_event=stop)
    events: list[dict[str, Any]] = []
    smaller = {"max_tokens_per_batch": 128, "gradient_checkpointing": True}
    manifest = train_candidate(make_run(save_every_steps=1, **smaller), on_event=events.append)
    resumed = next(event for event in events if event["event"] == "resumed")
    assert (resumed["step"], resumed["changed"]) == (1, smaller)
    assert manifest.config["max_tokens_per_batch"] == 128
    whole = train_candidate(make_run("whole"))
    assert manifest.summary is not None
    assert whole.summary is not None
    assert manifest.summary.final_loss == pytest.approx(whole.summary.final_loss, rel=1e-5)


def test_an_epoch_that_was_cut_off_while_it_was_written_is_written_again(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(num_epochs=2, checkpoint_at_epoch=True, save_every_steps=1)

    def cut_off(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(train, "write_model", cut_off)
        with pytest.raises(KeyboardInterrupt):
            train_candidate(run)
    train_candidate(run)
    assert sorted(path.name for path in (run.out_dir / "epochs").iterdir()) == ["epoch-1", "epoch-2"]


def test_the_pieces_of_a_document_stay_on_one_side_of_the_split() -> None:
    examples = [Example((1, 2, 3), (False, True, True), f"drop:{row}") for row in range(10) for _ in range(row + 1)]
    kept, held = split_rows(examples, 0.3, seed=1)
    sides = [{example.origin for example in side} for side in (kept, held)]
    assert (len(sides[0]), len(sides[1]), sides[0] & sides[1]) == (7, 3, set())
    assert len(kept) + len(held) == len(examples)
    with pytest.raises(ConfigError, match=r"0\.02 of 10 rows is 0"):
        split_rows(examples, 0.02, seed=1)


def test_the_rows_of_a_conversation_stay_on_one_side_of_the_split() -> None:
    """A drop with one row for each answer: the longer row teaches the answers of the shorter ones, so that watching them shows nothing."""

    def row(chat: int, turns: int) -> Example:
        ids = tuple(token for turn in range(turns) for token in (100 + chat, turn, 7))
        answers = tuple(Answer(2 * turn + 1, 3 * turn + 2, 3 * turn + 3, (7,)) for turn in range(turns))
        return Example(ids, tuple(token == 7 for token in ids), f"drop:{chat}.{turns}", answers=answers)

    examples = [row(chat, turns) for chat in range(20) for turns in (1, 2, 3)] + [row(20 + chat, 1) for chat in range(40)]
    kept, held = split_rows(examples, 0.2, seed=1)
    chats = [{example.ids[0] for example in side} for side in (kept, held)]
    assert not chats[0] & chats[1]
    assert len(kept) + len(held) == len(examples) == 100
    assert 18 <= len(held) <= 20
    alike = [row(1, turns) for turns in range(1, 11)]
    assert [len(side) for side in split_rows(alike, 0.2, seed=1)] == [8, 2], "one conversation alone is split by rows"
