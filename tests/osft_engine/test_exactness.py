"""What a round leaves on disk is exact: five hundred AdamW steps with weight decay and clipping, and the saved weights less the base's
lie outside the protected directions.

Everything is read back from safetensors in float64. The protected directions of the weights come from numpy's own SVD of the base, not
from the engine. `test_linear.py` proves the same of one layer in memory; here a whole run is proved, through the door that users take.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from data_contracts.manifests import CheckpointManifest
from data_contracts.rendering import TextRenderer
from osft_engine.checkpoint.update import load_update
from osft_engine.data.examples import load_examples
from osft_engine.method.attach import find_targets
from osft_engine.method.bases import load_bases
from osft_engine.run import TrainRun
from osft_engine.subspace.protection import AllowedUpdate
from osft_engine.train import train_candidate

MakeRun = Callable[..., TrainRun]

RATIO = 0.4
BOUND = 1e-5
# Steps that clip and decay. A row is eight tokens, a step two rows, and the targets one layer of each shape (square, tall, wide): five
# hundred steps take seconds.
SETTINGS: dict[str, Any] = {
    "weight_decay": 0.1,
    "max_grad_norm": 0.1,
    "learning_rate": 3e-3,
    "effective_batch_size": 2,
    "unfreeze_rank_ratio": RATIO,
    "target_patterns": ["q_proj", "gate_proj", "down_proj"],
    "buffer_size": 0,
}
# `side` where its own projections can leak, `dense` where the weight is rebuilt every step.
MODES: dict[str, dict[str, Any]] = {
    "weights": {"protect": "weights", "execution": "side"},
    "compact": {"protect": "weights", "compact": True, "execution": "dense"},
    "weights_block": {"protect": "weights_block"},
    "activations": {"protect": "activations", "execution": "dense"},
}


@pytest.fixture(scope="module")
def make_base(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Callable[[torch.dtype], Path]:
    """make_base(dtype) -> folder of a Llama of one block, with square, tall and wide layers."""

    def make(dtype: torch.dtype) -> Path:
        torch.manual_seed(11)
        shape = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
        model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=64, tie_word_embeddings=True, **shape))
        for parameter in model.parameters():
            if parameter.dim() == 2:
                torch.nn.init.normal_(parameter, std=0.2)
        folder = tmp_path_factory.mktemp("exact")
        model.to(dtype).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return make


@pytest.fixture
def drop(make_drop: Callable[..., Path]) -> Path:
    generator = torch.Generator().manual_seed(4)
    rows = [torch.randint(0, 256, (8,), generator=generator).tolist() for _ in range(4)]
    return make_drop([{"input_ids": ids, "labels": ids} for ids in rows], "exact-drop")


def _trained(run: TrainRun, steps: int) -> tuple[CheckpointManifest, dict[str, AllowedUpdate]]:
    """Train, and return the manifest and the directions that the run kept for its resume. The steps must have been clipped ones."""
    copy = run.out_dir.with_name(f"{run.out_dir.name}-bases.safetensors")
    norms: list[float] = []

    def watch(event: dict[str, Any]) -> None:
        if event["event"] == "step":
            norms.append(event["grad_norm"])
            if not copy.is_file():
                shutil.copyfile(run.out_dir / ".resume" / "bases.safetensors", copy)

    manifest = train_candidate(run, on_event=watch)
    assert manifest.summary is not None
    assert manifest.summary.steps == steps
    assert max(norms) > run.config.max_grad_norm
    return manifest, load_bases(copy)


def _saved_updates(run: TrainRun) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """target -> (W, dW) in float64, both from disk. Everything that is no target must be as it was, bit for bit."""
    before, after = (load_file(folder / "model.safetensors") for folder in (run.base, run.out_dir / "model"))
    assert before.keys() == after.keys()
    targets = {f"{name}.weight" for name in find_targets(AutoModelForCausalLM.from_pretrained(run.base), run.config.target_patterns)}
    assert all(torch.equal(before[name], after[name]) for name in before.keys() - targets)
    W = {name: before[name].double().numpy() for name in sorted(targets)}
    return {name.removesuffix(".weight"): (W[name], after[name].double().numpy() - W[name]) for name in W}


def _leading(W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """U_k (m x k), V_k (n x k): the k = q - round(rho q) leading singular directions."""
    q = min(W.shape)
    k = q - round(RATIO * q)
    U, _, Vt = np.linalg.svd(W, full_matrices=False)
    return U[:, :k], Vt[:k].T


def _relative(part: np.ndarray, whole: np.ndarray) -> float:
    return float(np.linalg.norm(part) / np.linalg.norm(whole))


@pytest.mark.parametrize("mode", MODES)
def test_saved_weights_leave_the_protected_directions_alone(
    make_run: MakeRun, make_base: Callable[[torch.dtype], Path], drop: Path, mode: str
) -> None:
    base = make_base(torch.float32)
    run = make_run(drop=drop, base=base, num_epochs=250, log_every_steps=50, moment_tokens=4096, **SETTINGS, **MODES[mode])
    manifest, bases = _trained(run, steps=500)
    inputs = _inputs(run) if mode == "activations" else {}
    for name, (W, dW) in _saved_updates(run).items():
        assert _relative(dW, W) > 0.05, name  # the update is no formality
        U, V = _leading(W)
        if mode == "activations":
            V = _protected_inputs(bases[name], inputs[name])
            leaks = [_relative(dW @ V, dW)]
        elif mode == "weights_block":
            leaks = [_relative(U.T @ dW @ V, dW)]
            assert min(_relative(U.T @ dW, dW), _relative(dW @ V, dW)) > 0.01, name  # only the block is closed
        else:
            leaks = [_relative(U.T @ dW, dW), _relative(dW @ V, dW)]
        assert max(leaks) <= BOUND, name
        assert manifest.layers[name].protected == V.shape[1]


def _inputs(run: TrainRun) -> dict[str, np.ndarray]:
    """What every target of the base reads on the calibration text (tokens x n), one document at a time."""
    model = AutoModelForCausalLM.from_pretrained(run.base).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(run.base)
    seen: dict[str, list[np.ndarray]] = {name: [] for name in find_targets(model, run.config.target_patterns)}
    for name, reads in seen.items():
        model.get_submodule(name).register_forward_pre_hook(lambda _, inputs, reads=reads: reads.append(inputs[0][0].double().numpy()))
    assert run.calibration is not None
    with torch.no_grad():
        for example in load_examples(run.calibration, TextRenderer(tokenizer), max_tokens=run.config.max_seq_len).examples:
            model(torch.tensor([example.ids]))
    return {name: np.concatenate(reads) for name, reads in seen.items()}


def _protected_inputs(allowed: AllowedUpdate, X: np.ndarray) -> np.ndarray:
    """R_k (n x k): all that the allowed input directions leave.

    Directions of nearly equal energy may trade places between two decompositions, so they are not compared one by one: the protected
    ones must hold as much of the inputs' energy as any k directions can.
    """
    assert allowed.right is not None
    R = allowed.right.double().numpy()
    Rk = np.linalg.svd(R)[0][:, R.shape[1] :]
    energy = np.linalg.svd(X, compute_uv=False) ** 2
    assert np.linalg.norm(X @ Rk) ** 2 >= (1.0 - 1e-6) * energy[: Rk.shape[1]].sum()
    return Rk


def test_in_bf16_the_leak_is_no_more_than_rounding_the_weights(
    make_run: MakeRun, make_base: Callable[[torch.dtype], Path], drop: Path
) -> None:
    """Bound: U_k^T dW = U_k^T E for the saved dW = exact update + E, where E is what rounding the sum to bf16 changed, so the leak is at
    most ||E|| / ||dW|| plus the exact update's own. E is no free parameter: no number moves by more than 2^-8 of itself."""
    base = make_base(torch.bfloat16)
    run = make_run(drop=drop, base=base, num_epochs=30, log_every_steps=20, dtype="bfloat16", protect="weights", **SETTINGS)
    _trained(run, steps=60)
    assert {value.dtype for value in load_file(run.out_dir / "model" / "model.safetensors").values()} == {torch.bfloat16}
    factors = load_update(run.out_dir / "update.safetensors")
    for name, (W, dW) in _saved_updates(run).items():
        exact = factors[name].dense().double().numpy()
        E = W + dW - (W + exact)
        assert (np.abs(E) <= 2.0**-8 * np.abs(W + dW) * (1.0 + 1e-4) + 1e-12).all(), name
        U, V = _leading(W)
        own = max(_relative(U.T @ exact, exact), _relative(exact @ V, exact))
        assert own <= BOUND, name
        leak = max(_relative(U.T @ dW, dW), _relative(dW @ V, dW))
        assert 0.0 < leak <= _relative(E, dW) + own, name
        assert leak > BOUND, name  # which is why the bound of float32 is not asked of bf16
