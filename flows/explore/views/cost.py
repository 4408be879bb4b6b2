"""The cost of a ratio for a model of a known shape: trainable parameters, optimiser memory, peak memory, step time. Pure.

Parameters are counted exactly as in the engine, on tensors without data. Memory and time are estimates: two speeds and one overhead come
from two baseline rows of the measured table (full, lora r=16; calibration.py), everything else is predicted from them, and the page shows
the error for every other row.

Shape legend: T tokens per step; a layer is m x n, its core C is a x r.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import torch

from flows.explore.views.model_shape import ModelShape
from osft_engine.subspace.counts import trainable_count
from osft_engine.subspace.linear import choose_execution, extra_operations
from osft_engine.subspace.protection import AllowedUpdate

Method = Literal["activations", "weights", "weights compact", "weights_block", "full", "lora"]
METHODS: tuple[Method, ...] = get_args(Method)
LORA_RANK = 16
_BYTES = 4  # float32: all values on a CPU; cores, gradients and optimiser states everywhere
_PASS_TOKENS = 1024  # most tokens in one forward pass of a step (half of TrainConfig.max_tokens_per_batch)
_SHARED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))  # same input, so they share one basis of input directions


@dataclass(frozen=True)
class Speeds:
    """Speeds of the measured machine, in CPU seconds, which exclude other work on it."""

    operations_per_second: float
    seconds_per_trained_parameter: float
    overhead_bytes: float


@dataclass(frozen=True)
class Cost:
    """The cost of one method at one ratio. Bytes are in addition to the bare model."""

    method: Method
    ratio: float
    trainable: int
    optimizer_bytes: int
    memory_bytes: float
    step_seconds: float


def allowed_without_data(m: int, n: int, method: Method, ratio: float) -> AllowedUpdate:
    """The allowed update of an m x n layer with bases on the meta device, so that the engine's own formulas count it."""
    t = trainable_count(n if method == "activations" else min(m, n), ratio)
    k = min(m, n) - t

    def basis(rows: int, columns: int) -> torch.Tensor:
        return torch.empty(rows, columns, device="meta")

    if method == "activations":
        return AllowedUpdate((m, n), None, None if t == n else basis(n, t), None, n - t, t)
    if k == 0 and method != "weights compact":
        return AllowedUpdate((m, n), None, None, None, 0, t)
    if method == "weights_block":
        return AllowedUpdate((m, n), None, None, (basis(m, k), basis(n, k)), k, t)
    thin_left, thin_right = (method == "weights compact" or side == min(m, n) for side in (m, n))
    left, left_without = (basis(m, t), None) if thin_left else (None, basis(m, k))
    right, right_without = (basis(n, t), None) if thin_right else (None, basis(n, k))
    return AllowedUpdate((m, n), left, right, None, k, t, left_without, right_without)


@lru_cache(maxsize=4096)
def estimate(shape: ModelShape, method: Method, ratio: float, tokens: int, speeds: Speeds, lora_rank: int = LORA_RANK) -> Cost:
    """One step of AdamW on `tokens` tokens. `ratio` has no effect on full and lora."""
    frozen = sum(layer.out * layer.into for layer in shape.layers)
    bases = effective = 0
    if method == "full":
        trainable = shape.parameters
        extra = float(tokens * frozen)
    elif method == "lora":
        trainable = sum(lora_rank * (layer.out + layer.into) for layer in shape.layers)
        extra = 3.0 * tokens * trainable
    else:
        trainable, bases, effective, extra = _osft(shape, method, ratio, tokens)
    operations = 2.0 * (2.0 * tokens * frozen + extra)  # forward and the gradient of the input; a multiplication and an addition each
    return Cost(
        method=method,
        ratio=ratio,
        trainable=trainable,
        optimizer_bytes=2 * _BYTES * trainable,
        memory_bytes=_BYTES * (_copies(method) * trainable + bases + effective) + activation_bytes(shape, tokens) + speeds.overhead_bytes,
        step_seconds=operations / speeds.operations_per_second + trainable * speeds.seconds_per_trained_parameter,
    )


def _copies(method: Method) -> int:
    """Copies of each trained parameter: gradient and two moments, and the parameter itself if it is not part of the model."""
    return 3 if method == "full" else 4


def _osft(shape: ModelShape, method: Method, ratio: float, tokens: int) -> tuple[int, int, int, float]:
    """(trainable parameters, floats of bases, floats of effective weights, multiplications beyond the frozen model's)."""
    trainable = bases = effective = 0
    extra = 0.0
    for (m, n, follows), count in _kinds(shape).items():
        allowed = allowed_without_data(m, n, method, ratio)
        a, r = allowed.core_shape
        execution = choose_execution(allowed, float(tokens))
        shared = follows and method == "activations"
        trainable += count * a * r
        effective += count * m * n if execution == "dense" else 0
        if not shared:
            bases += count * sum(each.numel() for each in allowed.parts.values())
        if allowed.block is None:
            extra += count * (extra_operations(allowed, float(tokens))[execution] - (tokens * n * r if shared else 0))
        else:  # a dense core: its gradient and its rebuilt weight are projected once per step each
            k = allowed.protected
            extra += count * (tokens * m * n + 2 * 2 * (k * m * n + k * k * n))
    return trainable, bases, effective, extra


@lru_cache(maxsize=64)
def _kinds(shape: ModelShape) -> dict[tuple[int, int, bool], int]:
    """Number of layers of each kind (out, in, whether it shares the input of another layer): a decoder has only a few kinds."""
    followers = tuple(name for group in _SHARED for name in group[1:])
    return dict(Counter((layer.out, layer.into, layer.name.endswith(followers)) for layer in shape.layers))


def activation_bytes(shape: ModelShape, tokens: int) -> float:
    """Activations that backward needs, for a gated decoder block: about 16 hidden and 5 inner widths per token."""
    return float(_BYTES * min(tokens, _PASS_TOKENS) * shape.blocks * (16 * shape.hidden + 5 * shape.inner))
