"""Rounds over mixtures of experts: what they leave on disk is read by plain transformers here, which runs its own loop over the experts."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from data_contracts.manifests import CheckpointManifest
from data_contracts.rendering import TextRenderer
from osft_engine import osft
from osft_engine.checkpoint.adapter import export_adapter
from osft_engine.data.examples import load_examples
from osft_engine.memory.subspace_memory import SubspaceMemory, load_memory
from osft_engine.method.bases import load_bases
from osft_engine.rescale import scale_candidate
from osft_engine.run import TrainRun
from osft_engine.subspace.protection import AllowedUpdate
from osft_engine.train import train_candidate

MakeRun = Callable[..., TrainRun]
MakeBase = Callable[[str], Path]

EXPERTS, CHOSEN = 4, 2  # of each layer, of each token
STEPS: dict[str, Any] = {"learning_rate": 1e-2, "warmup_steps": 0, "num_epochs": 2, "moment_tokens": 4096}


def _plain(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, experts_implementation="eager").eval()


@torch.no_grad()
def _logits(model: Any, ids: list[int]) -> torch.Tensor:
    logits: torch.Tensor = model(torch.tensor([ids]), use_cache=False).logits[0]
    return logits


def _fused(model: Any) -> dict[str, Any]:
    """The modules that hold a layer's experts, by name, as transformers makes them."""
    return {name: module for name, module in model.named_modules() if isinstance(getattr(module, "down_proj", None), nn.Parameter)}


def _matrices(model: Any) -> dict[str, np.ndarray]:
    """Every expert's matrices, out x in, cut from the fused parameters by hand."""
    return {
        f"{name}.{number}.{matrix}": (each.T if module.is_transposed else each).detach().double().numpy()
        for name, module in _fused(model).items()
        for matrix in ("gate_up_proj", "down_proj")
        for number, each in enumerate(getattr(module, matrix))
    }


def _relative(part: np.ndarray, whole: np.ndarray) -> float:
    return float(np.linalg.norm(part) / np.linalg.norm(whole))


@pytest.mark.parametrize("protect", ["activations", "weights", "weights_block"])
def test_a_round_is_saved_reloaded_rescaled_and_exported(
    make_run: MakeRun, mixture_base: MakeBase, tmp_path: Path, mixture: str, protect: str
) -> None:
    run = make_run(base=mixture_base(mixture), protect=protect, unfreeze_rank_ratio=0.4, **STEPS)
    manifest = train_candidate(run)
    before, after = _plain(run.base), _plain(run.out_dir / "model")
    experts = [name for name in manifest.layers if ".experts." in name]
    assert len(experts) == 2 * 2 * EXPERTS
    _only_targets_changed(before, after, manifest)
    for name, W in _matrices(before).items():
        dW = _matrices(after)[name] - W
        assert _relative(dW, W) > 1e-3, name
        k = manifest.layers[name].protected
        U, _, Vt = np.linalg.svd(W, full_matrices=False)
        U, V = U[:, :k], Vt[:k].T
        if protect == "weights":
            assert max(_relative(U.T @ dW, dW), _relative(dW @ V, dW)) <= 1e-5, name
        elif protect == "weights_block":
            assert _relative(U.T @ dW @ V, dW) <= 1e-5, name
    ids = list(range(60, 100))
    moved = float((_logits(after, ids) - _logits(before, ids)).abs().max())
    assert moved > 0.01

    half = scale_candidate(run.out_dir, run.base, tmp_path / "half", 0.5)
    middle = {name: (first + _matrices(after)[name]) / 2 for name, first in _matrices(before).items()}
    for name, W in _matrices(_plain(tmp_path / "half" / "model")).items():
        np.testing.assert_allclose(W, middle[name], rtol=0, atol=1e-6)
    assert half.layers.keys() == manifest.layers.keys()

    made = export_adapter(run.out_dir, tmp_path / "adapter", base=str(run.base))
    adapted = PeftModel.from_pretrained(_plain(run.base), tmp_path / "adapter").eval()
    assert made.relative_error < 1e-6
    torch.testing.assert_close(_logits(adapted, ids), _logits(after, ids), rtol=1e-4, atol=1e-4)
    merged = adapted.merge_and_unload().state_dict()
    for name, value in after.state_dict().items():
        torch.testing.assert_close(merged[name], value, rtol=1e-5, atol=1e-6)


def _only_targets_changed(before: Any, after: Any, manifest: CheckpointManifest) -> None:
    one, two = before.state_dict(), after.state_dict()
    assert one.keys() == two.keys()
    changed = {name for name in one if not torch.equal(one[name], two[name])}
    plain = {f"{name}.weight" for name in manifest.layers if ".experts." not in name}
    assert changed == plain | {f"{name}.{matrix}" for name in _fused(before) for matrix in ("gate_up_proj", "down_proj")}
    assert all(layer.leak < 1e-5 for layer in manifest.layers.values())


def _general(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def _read_by_experts(run: TrainRun, path: Path) -> tuple[dict[str, np.ndarray], list[list[int]]]:
    """What every expert of the base reads on a text (expert -> tokens x n), from its router alone, and the texts as tokens."""
    model, tokenizer = _plain(run.base), PreTrainedTokenizerFast.from_pretrained(run.base)
    texts = [list(each.ids) for each in load_examples(path, TextRenderer(tokenizer), max_tokens=128, unmask=True).examples]
    seen: dict[str, list[np.ndarray]] = {f"{name}.{number}": [] for name in _fused(model) for number in range(EXPERTS)}
    for name, module in _fused(model).items():

        def note(_: Any, inputs: tuple[torch.Tensor, ...], name: str = name) -> None:
            for number in range(EXPERTS):
                seen[f"{name}.{number}"].append(inputs[0][(inputs[1] == number).any(-1)].double().numpy())

        module.register_forward_pre_hook(note)
    for ids in texts:
        _logits(model, ids)
    return {name: np.concatenate(reads) for name, reads in seen.items()}, texts


def test_outputs_on_the_calibration_text_do_not_change(make_run: MakeRun, mixture_base: MakeBase, tmp_path: Path, mixture: str) -> None:
    """Two short texts of unequal length, so that padding is read and must not count: they span fewer directions than are protected in any
    layer, so that training may change nothing on them, whatever it changes elsewhere. An expert that they do not reach stays as it is."""
    run = make_run(base=mixture_base(mixture), unfreeze_rank_ratio=0.25, **STEPS)
    run = run.model_copy(update={"calibration": _general(tmp_path / "short.jsonl", ["A cat", "Some mats"])})
    manifest = train_candidate(run)
    reads, texts = _read_by_experts(run, tmp_path / "short.jsonl")
    assert len({len(ids) for ids in texts}) == 2
    assert sum(map(len, texts)) <= 18  # = 24 inputs less 6, the fewest that are protected
    before, after = _plain(run.base), _plain(run.out_dir / "model")
    for ids in texts:
        torch.testing.assert_close(_logits(after, ids), _logits(before, ids), rtol=1e-4, atol=1e-4)
    assert float((_logits(after, list(range(60, 90))) - _logits(before, list(range(60, 90)))).abs().max()) > 0.05
    changed = {name for name, W in _matrices(before).items() if not np.array_equal(W, _matrices(after)[name])}
    assert changed == {f"{name}.{matrix}" for name, read in reads.items() if len(read) for matrix in ("gate_up_proj", "down_proj")}
    assert changed == {name for name in manifest.layers if ".experts." in name}


def test_an_expert_that_no_token_reached_is_named_and_trained_once_it_is_reached(
    make_run: MakeRun, mixture_base: MakeBase, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(base=mixture_base("mixtral"), **STEPS)
    run = run.model_copy(update={"calibration": _general(tmp_path / "short.jsonl", ["A"])})
    reads, _ = _read_by_experts(run, tmp_path / "short.jsonl")
    unread = [name for name, read in reads.items() if not len(read)]
    assert unread
    first = train_candidate(run)
    assert (
        f"warning: {2 * len(unread)} of 16 matrices of experts (such as {unread[0]}.gate_up_proj) read no token" in capsys.readouterr().err
    )
    assert not any(name.startswith(tuple(f"{each}." for each in unread)) for name in first.layers)
    memory = load_memory(run.out_dir / "ledger.safetensors")
    assert {memory.reached[f"{name}.down_proj"] > len(reads[name]) for name in unread} == {True}, "the drop reached them"

    second = make_run("second", base=run.out_dir / "model", parent=run.out_dir, **STEPS).model_copy(update={"skill": "more"})
    again = train_candidate(second)
    assert len(again.layers) == len(first.layers) + 2 * len(unread)


@pytest.mark.parametrize("mixture", ["mixtral", "gpt_oss"], indirect=True)
def test_the_memory_holds_what_reached_each_expert_and_counts_it(
    make_run: MakeRun, mixture_base: MakeBase, tmp_path: Path, mixture: str
) -> None:
    run = make_run(base=mixture_base(mixture), unfreeze_rank_ratio=0.4, **STEPS)
    general = _general(tmp_path / "general.jsonl", [f"The {n} cats of row {n * n} sleep on {n % 3} mats." for n in range(20)])
    reads, texts = _read_by_experts(run, general)
    memory, bases = _decided_before_training(run)
    tokens = sum(map(len, texts))
    assert sum(memory.reached[f"{name}.gate_up_proj"] for name in reads) == 2 * CHOSEN * tokens
    for name, X in reads.items():
        assert memory.reached[f"{name}.gate_up_proj"] == memory.reached[f"{name}.down_proj"] == len(X)
        np.testing.assert_allclose(memory.moment(f"{name}.gate_up_proj").numpy(), X.T @ X / tokens, rtol=1e-3, atol=1e-5)
    for name, X in reads.items():
        R = bases[f"{name}.gate_up_proj"].right
        assert R is not None
        energy = np.linalg.svd(X, compute_uv=False) ** 2
        assert np.linalg.norm(X @ R.double().numpy()) ** 2 <= (1.0 + 1e-3) * energy[-R.shape[1] :].sum()


def _decided_before_training(run: TrainRun) -> tuple[SubspaceMemory, dict[str, AllowedUpdate]]:
    class EnoughError(Exception):
        pass

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "step":
            raise EnoughError

    with pytest.raises(EnoughError):
        train_candidate(run, on_event=stop)
    return load_memory(run.out_dir / ".resume" / "ledger.safetensors"), load_bases(run.out_dir / ".resume" / "bases.safetensors")


@pytest.mark.parametrize("execution", ["dense", "side"])
def test_a_killed_run_resumes_to_the_same_bits(make_run: MakeRun, mixture_base: MakeBase, execution: str) -> None:
    settings = STEPS | {"execution": execution, "save_every_steps": 2, "save_every_seconds": 1e6}
    whole, cut = (make_run(out, base=mixture_base("qwen3_moe"), **settings) for out in ("whole", "cut"))
    child = os.fork()
    if child == 0:
        train_candidate(cut, on_event=lambda event: os.kill(os.getpid(), signal.SIGKILL) if event.get("step") == 4 else None)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    steps: list[int] = []
    train_candidate(cut, on_event=lambda event: steps.append(event["step"]) if event["event"] == "step" else None)
    train_candidate(whole)
    assert steps[0] > 1
    for name, W in _matrices(_plain(whole.out_dir / "model")).items():
        np.testing.assert_array_equal(_matrices(_plain(cut.out_dir / "model"))[name], W)


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("mixture", ["mixtral", "gpt_oss"], indirect=True)
def test_the_baselines_train_experts_too(make_run: MakeRun, mixture_base: MakeBase, mixture: str, method: str) -> None:
    run = make_run(base=mixture_base(mixture), method=method, **STEPS)
    train_candidate(run)
    before, after = (_matrices(_plain(folder)) for folder in (run.base, run.out_dir / "model"))
    assert all(_relative(after[name] - W, W) > 1e-4 for name, W in before.items())


def test_a_model_written_after_an_epoch_is_the_one_at_the_end(make_run: MakeRun, mixture_base: MakeBase, mixture: str) -> None:
    run = make_run(base=mixture_base(mixture), checkpoint_at_epoch=True, **STEPS)
    train_candidate(run)
    one, two = (_plain(run.out_dir / folder).state_dict() for folder in ("epochs/epoch-2", "model"))
    assert all(torch.equal(one[name], value) for name, value in two.items())


def test_two_calls_of_osft_continue_a_lineage_of_experts(mixture_base: MakeBase, tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": "yes" * (n % 3 + 1)}]} for n in range(8)]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings: dict[str, Any] = {"effective_batch_size": 4, "num_epochs": 1, "warmup_steps": 0, "learning_rate": 1e-2}
    june = osft(mixture_base("granitemoe"), data, tmp_path / "june", **settings)  # the model writes its own calibration
    july = osft(tmp_path / "june" / "model", data, tmp_path / "july", **settings)
    assert june.layers
    first, second = (load_memory(tmp_path / each / "ledger.safetensors") for each in ("june", "july"))
    assert second.rounds == ("base", "june", "july")
    assert set(july.layers) >= set(june.layers)
    for name in (name for name in june.layers if ".experts." in name):
        assert second.reached[name] >= first.reached[name] > 0
