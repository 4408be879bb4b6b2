"""What an option promises beside learning: checkpointed gradients are the same gradients, bf16 trains, a cut-off run ends at the same
bits under Muon and under keep_best, and a gradient that is not finite stops the run before it touches anything."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from data_contracts.errors import TrainingError
from data_contracts.manifests import CheckpointManifest
from osft_engine.compute.forward import summed_loss
from osft_engine.data.batches import MicroBatch, epoch_steps
from osft_engine.loop import trainer
from osft_engine.run import TrainRun
from osft_engine.subspace.linear import UpdatedLinear
from osft_engine.train import train_candidate

MakeRun = Callable[..., TrainRun]
Event = dict[str, Any]

MODEL = "model/model.safetensors"


def _train(run: TrainRun) -> tuple[CheckpointManifest, list[Event]]:
    events: list[Event] = []
    return train_candidate(run, on_event=events.append), events


def _of_kind(events: list[Event], kind: str) -> list[Event]:
    return [event for event in events if event["event"] == kind]


def _losses(events: list[Event]) -> list[float]:
    return [event["loss"] for event in _of_kind(events, "step")]


def _logged(run: TrainRun) -> list[Event]:
    return [json.loads(line) for line in (run.out_dir / "metrics.jsonl").read_text().splitlines()]


def _update(run: TrainRun) -> Tensor:
    """Every change that the run made to the base's weights, float64, as one vector."""
    before, after = (load_file(file) for file in (run.base / "model.safetensors", run.out_dir / MODEL))
    return torch.cat([(after[name].double() - before[name].double()).flatten() for name in sorted(before)])


def _cut(run: TrainRun, at: Callable[[Event], bool]) -> None:
    """Run until an event is reached, and stop there as a person does with Ctrl-C."""

    def stop(event: Event) -> None:
        if at(event):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_candidate(run, on_event=stop)
    assert not (run.out_dir / "manifest.json").exists()
    assert not (run.out_dir / "model").exists()


@pytest.mark.parametrize("way", [{"protect": "activations", "execution": "side"}, {"protect": "weights", "execution": "dense"}])
def test_gradient_checkpointing_changes_memory_and_not_the_training(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, way: dict[str, str]
) -> None:
    """Layers that share x R are run a second time in the backward pass, where the tensor that they share is another one."""
    calls = 0
    forward = UpdatedLinear.forward

    def counted(layer: UpdatedLinear, x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return forward(layer, x)

    monkeypatch.setattr(UpdatedLinear, "forward", counted)
    settings = {"num_epochs": 2, "learning_rate": 1e-2, "warmup_steps": 0, **way}
    kept, recomputed = (make_run(name, gradient_checkpointing=name == "recomputed", **settings) for name in ("kept", "recomputed"))
    _, plain = _train(kept)
    calls_plain, calls = calls, 0
    _, checkpointed = _train(recomputed)
    assert calls > 1.5 * calls_plain  # it did recompute
    assert len(_losses(plain)) == 6
    assert _losses(checkpointed) == pytest.approx(_losses(plain), rel=1e-5)
    norms = [[event["grad_norm"] for event in _of_kind(events, "step")] for events in (plain, checkpointed)]
    assert norms[1] == pytest.approx(norms[0], rel=1e-4)
    assert float((_update(recomputed) - _update(kept)).norm()) <= 1e-3 * float(_update(kept).norm())


def test_bf16_compute_trains_and_saves_bf16(make_run: MakeRun) -> None:
    """`dtype` is that of the frozen weights, and the candidate is saved in it; the core is trained in float32 whatever it is."""
    run = make_run(dtype="bfloat16", num_epochs=6, learning_rate=1e-2, warmup_steps=0)
    manifest, events = _train(run)
    losses = _losses(events)
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])
    assert torch.isfinite(_update(run)).all()
    assert {value.dtype for value in load_file(run.out_dir / MODEL).values()} == {torch.bfloat16}
    assert json.loads((run.out_dir / "model" / "config.json").read_text())["dtype"] == "bfloat16"
    assert {value.dtype for value in load_file(run.out_dir / "update.safetensors").values()} == {torch.float32}
    # The update is more than what rounding the base did.
    base = load_file(run.base / "model.safetensors")
    rounding = sum(float((value.bfloat16().double() - value.double()).square().sum()) for value in base.values()) ** 0.5
    assert float(_update(run).norm()) > 3 * rounding
    assert manifest.summary is not None
    assert manifest.summary.final_loss < manifest.summary.first_loss


def test_muon_interrupted_and_resumed_ends_at_the_same_bits(make_run: MakeRun) -> None:
    """With a norm trained beside the matrices, so that Muon's state and AdamW's both have to come back."""
    settings = {"optimizer": "muon", "train_other": [r"norm\.weight"], "num_epochs": 3, "learning_rate": 3e-3, "weight_decay": 0.1}
    settings |= {"save_every_steps": 2, "save_every_seconds": 1e6}
    whole, cut = make_run("whole", **settings), make_run("cut", **settings)
    _train(whole)
    _cut(cut, lambda event: event.get("step") == 6)  # before its state is saved: the last save is of step 4
    _, events = _train(cut)
    assert [event["step"] for event in _of_kind(events, "step")] == [5, 6, 7, 8, 9]
    for name in (MODEL, "update.safetensors", "ledger.safetensors"):
        assert (whole.out_dir / name).read_bytes() == (cut.out_dir / name).read_bytes(), name
    assert _losses(_logged(cut)) == _losses(_logged(whole))
    before, after = (load_file(file) for file in (whole.base / "model.safetensors", whole.out_dir / MODEL))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {"model.norm.weight", "model.layers.0.self_attn.q_proj.weight"} <= moved


def test_keep_best_and_early_stop_survive_interruptions(make_run: MakeRun) -> None:
    """Cut where the best is found and not yet written, where it is older than the state, and where training is over but not yet taken
    back to it: each ends at the best of the run that nobody disturbed."""
    settings = {"num_epochs": 12, "learning_rate": 0.3, "warmup_steps": 0, "lr_scheduler": "constant", "validation_share": 0.25}
    settings |= {"keep_best": True, "early_stop_patience": 2, "validate_every_steps": 2, "save_every_steps": 3, "save_every_seconds": 1e6}
    whole = make_run("whole", **settings)
    manifest, events = _train(whole)
    validations = _of_kind(events, "validation")
    (taken,) = _of_kind(events, "best")
    assert manifest.summary is not None
    assert manifest.summary.steps < 12 * 3  # it did stop early
    assert [event["best"] for event in validations[-3:]] == [True, False, False]
    assert taken["step"] == validations[-3]["step"] < manifest.summary.steps

    places: dict[str, Callable[[Event], bool]] = {
        "found": lambda event: event["event"] == "validation" and event["step"] == taken["step"],
        "passed": lambda event: event["event"] == "validation" and event["step"] == validations[-2]["step"],
        "over": lambda event: event["event"] == "best",
    }
    for name, place in places.items():
        run = make_run(name, **settings)
        _cut(run, place)
        again, resumed = _train(run)
        assert (run.out_dir / MODEL).read_bytes() == (whole.out_dir / MODEL).read_bytes(), name
        assert again.summary is not None
        assert again.summary.steps == manifest.summary.steps, name
        (best,) = _of_kind(resumed, "best")
        assert best == taken, name
        assert _of_kind(_logged(run), "validation") == validations, name


def test_looks_before_early_stop_after_count_neither_as_best_nor_for_the_end(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """The best look is the first: where it counts, training ends two looks later; where it does not, two after the best of the rest."""

    def losses(looks: Iterator[float]) -> Callable[[trainer.Trainer], float]:
        return lambda _: next(looks)

    ended, taken = {}, {}
    for after in (0, 3):
        monkeypatch.setattr(trainer.Trainer, "_held_out_loss", losses(iter([1.0, 3.0, 2.0, 2.5, 2.6, 2.7, 0.5])))
        settings = {"validation_share": 0.25, "keep_best": True, "early_stop_patience": 2, "validate_every_steps": 2}
        manifest, events = _train(make_run(f"after-{after}", num_epochs=12, **settings, early_stop_after=after))
        assert manifest.summary is not None
        ended[after] = manifest.summary.steps
        (best,) = _of_kind(events, "best")
        taken[after] = (best["step"], best["loss"])
    assert ended == {0: 6, 3: 10}
    assert taken == {0: (2, 1.0), 3: (6, 2.0)}


def test_looks_count_from_a_pass_in_which_nothing_is_left_to_learn(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """SmolLM2 knew every row of a drop by heart after 250 steps (loss 1e-5), and was trained to 900 because looks counted from 500 on."""
    settings = {"num_epochs": 12, "learning_rate": 1.0, "warmup_steps": 0, "lr_scheduler": "constant", "validation_share": 0.25}
    settings |= {"keep_best": True, "early_stop_patience": 2, "validate_every_steps": 1, "early_stop_after": 1000}
    never, events = _train(make_run("never", **settings))
    assert never.summary is not None
    assert not any(look["best"] for look in _of_kind(events, "validation"))
    a_pass = never.summary.steps // 12
    losses = [step["loss"] for step in _of_kind(events, "step")]
    passes = {last: max(losses[last - a_pass : last]) for last in range(a_pass, len(losses) + 1)}
    known, level = next((last, most) for last, most in passes.items() if most < passes[a_pass])

    monkeypatch.setattr(trainer, "LEARNED", level * (1 + 1e-9))
    soon, events = _train(make_run("soon", **settings))
    looks = _of_kind(events, "validation")
    assert soon.summary is not None
    assert known < soon.summary.steps < never.summary.steps
    assert next(look["step"] for look in looks if look["best"]) == known
    [taken] = _of_kind(events, "best")
    assert taken["step"] >= known


def test_a_watched_loss_within_the_least_gain_of_zero_ends_the_training_at_once(make_run: MakeRun) -> None:
    settings = {"num_epochs": 12, "validation_share": 0.25, "keep_best": True, "early_stop_patience": 3, "validate_every_steps": 2}
    whole, events = _train(make_run("whole", **settings))
    first = _of_kind(events, "validation")[0]
    for gain, steps in ((first["loss"], 2), (0.0, whole.summary.steps if whole.summary else 0)):
        ended, _ = _train(make_run(f"gain {gain}", **settings, early_stop_gain=gain))
        assert ended.summary is not None
        assert ended.summary.steps == steps


def test_a_gradient_that_is_not_finite_stops_the_run_and_keeps_the_last_good_state(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss of one row is finite and its gradient is not. Its step is named and takes nothing with it: with the fault gone, the run
    goes on from the step before and ends as if it had never been there."""
    settings = {"num_epochs": 2, "protect": "weights", "learning_rate": 1e-2}  # nothing is due to be saved: stopping does it
    clean, poisoned = make_run("clean", **settings), make_run("poisoned", **settings)
    _train(clean)
    row = epoch_steps(24, poisoned.config.effective_batch_size, poisoned.config.seed, epoch=0)[1][0]  # of the second step

    def poison(model: Any, batch: MicroBatch) -> Tensor:
        loss = summed_loss(model, batch)
        if f"clean.jsonl:{row + 1}" in batch.origins:
            loss.register_hook(lambda gradient: gradient * float("inf"))
        return loss

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "summed_loss", poison)
        events: list[Event] = []
        with pytest.raises(TrainingError, match=r"step 2 of 6: the gradient norm is (inf|nan) on ") as stopped:
            train_candidate(poisoned, on_event=events.append)
    assert re.search(rf"clean\.jsonl:{row + 1}\b", str(stopped.value))
    assert all(torch.isfinite(torch.tensor(_losses(events))))
    assert [event["step"] for event in _of_kind(events, "step")] == [1]
    assert not (poisoned.out_dir / "manifest.json").exists()
    assert not (poisoned.out_dir / "model").exists()

    _, after = _train(poisoned)
    assert [event["step"] for event in _of_kind(after, "step")] == [2, 3, 4, 5, 6]
    assert (poisoned.out_dir / MODEL).read_bytes() == (clean.out_dir / MODEL).read_bytes()
