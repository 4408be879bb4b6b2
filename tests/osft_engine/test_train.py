"""One round of training, end to end, on a tiny model: every method, kill and resume, and every way it must refuse."""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.process
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from data_contracts.errors import CheckpointError, TrainingError
from data_contracts.manifests import CheckpointManifest, read_manifest
from osft_engine.checkpoint.update import load_update
from osft_engine.run import TrainRun
from osft_engine.train import train_candidate

MakeRun = Callable[..., TrainRun]

METHODS = [
    {"method": "full"},
    {"method": "lora"},
    {"method": "osft", "protect": "weights"},
    {"method": "osft", "protect": "weights", "compact": True},
    {"method": "osft", "protect": "weights_block"},
    {"method": "osft", "protect": "activations"},
    {"method": "osft", "protect": "activations", "optimizer": "muon"},
]


def _id(config: dict[str, object]) -> str:
    return "-".join(str(value) for value in config.values())


@pytest.mark.parametrize("config", METHODS, ids=_id)
def test_every_method_learns_and_leaves_a_whole_dense_checkpoint(make_run: MakeRun, config: dict[str, object]) -> None:
    run = make_run(num_epochs=6, learning_rate=1e-2, warmup_steps=0, **config)
    manifest = train_candidate(run)
    assert manifest == read_manifest(run.out_dir, CheckpointManifest)
    assert manifest.summary is not None
    assert manifest.summary.final_loss < manifest.summary.first_loss
    assert not (run.out_dir / ".resume").exists()
    before = load_file(run.base / "model.safetensors")
    after = load_file(run.out_dir / "model" / "model.safetensors")
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    reloaded = AutoModelForCausalLM.from_pretrained(run.out_dir / "model")
    assert torch.isfinite(reloaded(torch.tensor([[1, 2, 3]])).logits).all()


@pytest.mark.parametrize("config", METHODS[2:], ids=_id)
def test_saved_weights_stay_inside_the_allowed_directions(make_run: MakeRun, config: dict[str, object]) -> None:
    manifest = train_candidate(make_run(num_epochs=4, learning_rate=1e-2, weight_decay=0.1, **config))
    assert manifest.summary is not None
    assert manifest.summary.max_leak is not None
    assert manifest.summary.max_leak <= 1e-5
    assert len(manifest.layers) == 14  # seven linear layers in each of two blocks
    assert all(layer.protected > 0 for layer in manifest.layers.values())


def test_two_rounds_carry_memory_and_buffer(make_run: MakeRun, make_drop: Callable[..., Path]) -> None:
    first = make_run(out="first", buffer_size=10)
    train_candidate(first)
    chat = [
        {"messages": [{"role": "user", "content": f"say {word}"}, {"role": "assistant", "content": word}]}
        for word in ("a", "bc", "def", "gh")
    ]
    second = make_run(
        out="second", drop=make_drop(chat, "drop2"), base=first.out_dir / "model", parent=first.out_dir, buffer_size=10, replay_share=0.5
    )
    manifest = train_candidate(second)
    assert manifest.summary is not None
    assert manifest.summary.examples == 8  # four of the drop, four of the buffer
    assert {"update", "ledger", "buffer", "metrics"} <= manifest.files.keys()
    rows = [json.loads(line) for line in (second.out_dir / "buffer.jsonl").read_text().splitlines()]
    assert len(rows) == 10
    assert (second.out_dir / "ledger.safetensors").stat().st_size == pytest.approx(
        (first.out_dir / "ledger.safetensors").stat().st_size, rel=0.01
    )


def _in_a_fork(work: Callable[[], object]) -> multiprocessing.process.BaseProcess:
    """Run `work` in a process that may die or be limited. Forked: a fresh interpreter would spend seconds on imports."""
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(timeout=120)
    return child


@pytest.mark.parametrize("config", [METHODS[0], METHODS[1], METHODS[3], METHODS[5]], ids=_id)
def test_killed_run_resumes_to_the_same_bits(make_run: MakeRun, config: dict[str, object]) -> None:
    settings = {"num_epochs": 4, "learning_rate": 3e-3, "save_every_steps": 3, "save_every_seconds": 1e6, **config}
    whole, cut = make_run(out="whole", **settings), make_run(out="cut", **settings)

    def die_at_step_seven(event: dict[str, object]) -> None:
        if event.get("step") == 7:
            os.kill(os.getpid(), signal.SIGKILL)

    assert _in_a_fork(lambda: train_candidate(cut, on_event=die_at_step_seven)).exitcode == -signal.SIGKILL
    train_candidate(whole)
    assert not (cut.out_dir / "manifest.json").exists()
    steps: list[int] = []
    train_candidate(cut, on_event=lambda event: steps.append(event["step"]) if event["event"] == "step" else None)
    assert steps == list(range(7, 13))  # saved at 6, killed at 7
    written = [path.relative_to(whole.out_dir) for path in whole.out_dir.rglob("*.*") if path.suffix in (".safetensors", ".jsonl")]
    assert Path("model/model.safetensors") in written
    for name in set(written) - {Path("metrics.jsonl")}:  # which holds times
        assert (whole.out_dir / name).read_bytes() == (cut.out_dir / name).read_bytes()
    logged = [json.loads(line) for line in (cut.out_dir / "metrics.jsonl").read_text().splitlines()]
    assert [event["step"] for event in logged if event["event"] == "step"] == list(range(1, 13))


def test_another_config_may_not_take_over_a_cut_off_run(make_run: MakeRun) -> None:
    def stop(event: dict[str, object]) -> None:
        if event.get("step") == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_candidate(make_run(), on_event=stop)
    with pytest.raises(TrainingError, match="differs in learning_rate"):
        train_candidate(make_run(learning_rate=0.5))


def test_loss_that_is_not_finite_stops_and_names_step_and_rows(make_run: MakeRun) -> None:
    run = make_run(method="full", learning_rate=1e30, warmup_steps=0)
    with pytest.raises(TrainingError, match=r"step \d+ of 3: .* is (nan|inf) on .*clean.jsonl:\d+"):
        train_candidate(run)
    assert not (run.out_dir / "manifest.json").exists()
    assert not (run.out_dir / "model").exists()


def test_finished_run_is_returned_not_repeated(make_run: MakeRun) -> None:
    run = make_run()
    first = train_candidate(run)
    events: list[dict[str, object]] = []
    assert train_candidate(run, on_event=events.append) == first
    assert events == []
    with pytest.raises(CheckpointError, match="another checkpoint"):
        train_candidate(make_run(seed=5))


def test_base_that_is_not_the_parents_model_is_refused(make_run: MakeRun, base_folder: Path, tmp_path: Path) -> None:
    first = make_run(out="first")
    train_candidate(first)
    with pytest.raises(CheckpointError, match="is not the model of the parent"):
        train_candidate(make_run(out="second", base=base_folder, parent=first.out_dir))


def test_best_validation_is_kept_and_training_stops_early(make_run: MakeRun) -> None:
    events: list[dict[str, object]] = []
    run = make_run(
        num_epochs=12,
        learning_rate=0.3,
        warmup_steps=0,
        lr_scheduler="constant",
        validation_share=0.25,
        keep_best=True,
        early_stop_patience=2,
    )
    manifest = train_candidate(run, on_event=events.append)
    losses = [event["loss"] for event in events if event["event"] == "validation"]
    assert manifest.summary is not None
    assert manifest.summary.steps < 12 * 3  # 18 examples, 8 a step
    assert losses[-3] == min(losses)  # two validations without a gain end it
    taken = next(event for event in events if event["event"] == "best")
    assert taken["loss"] == min(losses)


def test_every_epoch_can_be_kept_as_a_dense_model(make_run: MakeRun) -> None:
    run = make_run(num_epochs=2, checkpoint_at_epoch=True, lr_scheduler="constant", learning_rate=1e-2)
    train_candidate(run)
    first, last = (load_file(run.out_dir / "epochs" / f"epoch-{n}" / "model.safetensors") for n in (1, 2))
    final = load_file(run.out_dir / "model" / "model.safetensors")
    assert all(torch.equal(last[name], final[name]) for name in final)
    assert any(not torch.equal(first[name], final[name]) for name in final)


@pytest.mark.parametrize(
    "policy", [{"rank_policy": "energy", "energy_share": 0.9}, {"rank_policy": "importance", "protect": "weights"}], ids=_id
)
def test_rank_policies_give_layers_their_own_share(make_run: MakeRun, policy: dict[str, object]) -> None:
    manifest = train_candidate(make_run(rank_overrides={"down_proj": 0.5}, **policy))
    shares = {name: layer.trainable / (layer.trainable + layer.protected) for name, layer in manifest.layers.items()}
    assert {share for name, share in shares.items() if name.endswith("down_proj")} == {0.5}
    assert len({share for name, share in shares.items() if not name.endswith("down_proj")}) > 1


def test_directions_that_an_earlier_round_wrote_are_protected_in_the_next(make_run: MakeRun, make_drop: Callable[..., Path]) -> None:
    settings = {"protect": "weights", "protect_written": True, "unfreeze_rank_ratio": 0.5, "learning_rate": 1e-2, "warmup_steps": 0}
    first = make_run(out="first", written_share=0.5, **settings)
    train_candidate(first)
    second = make_run(out="second", drop=make_drop(12, "drop2"), base=first.out_dir / "model", parent=first.out_dir, **settings)
    manifest = train_candidate(second)
    earlier, later = (load_update(run.out_dir / "update.safetensors") for run in (first, second))
    for name, update in later.items():
        U, values, _ = torch.linalg.svd(earlier[name].dense().double(), full_matrices=False)
        strongest = U[:, values.square().cumsum(0) <= 0.5 * values.square().sum()]
        dW = update.dense().double()
        assert float((strongest.T @ dW).norm()) <= 1e-5 * float(dW.norm())
    assert all(layer.trainable < 16 for layer in manifest.layers.values())
