"""View 3: what a ratio costs a model named by its config: trainable parameters, optimiser memory, peak memory, step time. Pure but for
reading a config.

Parameters are counted exactly as the engine would make them, on tensors without data. Memory and time are estimates: two speeds and one
overhead are taken from two baseline rows of the measured table (full, lora r=16), everything else is predicted from them, and the error of
every other row is shown.

Shape legend: T tokens a step; a layer is m x n, its core C is a x r.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

import plotly.graph_objects as go
import torch

from data_contracts.errors import CheckpointError
from flows.explore.figures import BLUE, GREEN, ORANGE, PURPLE, line, mark, styled
from osft_engine.linear import choose_execution, extra_operations
from osft_engine.protection import AllowedUpdate, trainable_count

Method = Literal["activations", "weights", "weights compact", "weights_block", "full", "lora"]
METHODS: tuple[Method, ...] = get_args(Method)
COLOURS: dict[Method, str] = {"activations": BLUE, "weights": ORANGE, "weights compact": GREEN, "weights_block": PURPLE}
LORA_RANK = 16
_BYTES = 4  # float32: what trains on a CPU, and what cores, gradients and optimiser states are everywhere
_PASS_TOKENS = 1024  # one forward pass of a step holds at most so many tokens (TrainConfig.max_tokens_per_batch is its double)
_SHARED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))  # read one tensor, so they share one basis of input directions
_BLOCK_INDEX = re.compile(r"\.\d+\.")


@dataclass(frozen=True)
class LayerShape:
    name: str
    out: int
    into: int


@dataclass(frozen=True)
class ModelShape:
    """A model without its weights. `parameters` counts each tied weight once; hidden and inner are widths in floats a token."""

    name: str
    layers: tuple[LayerShape, ...]
    parameters: int
    blocks: int
    hidden: int
    inner: int


@dataclass(frozen=True)
class Speeds:
    """What the measured machine does. cpu seconds, so that other work on it does not count."""

    operations_per_second: float
    seconds_per_trained_parameter: float
    overhead_bytes: float


@dataclass(frozen=True)
class Cost:
    """One method at one ratio. Bytes are over the bare model."""

    method: Method
    ratio: float
    trainable: int
    optimizer_bytes: int
    base_bytes: int
    memory_bytes: float
    step_seconds: float


@dataclass(frozen=True)
class Measured:
    method: str
    tokens: int
    trainable: int
    memory_bytes: int
    cpu_seconds: float


def read_shape(folder_or_config: Path, label: str = "") -> ModelShape:
    """The shape of a model folder or a config.json. Raises CheckpointError where it is not one."""
    path = folder_or_config / "config.json" if folder_or_config.is_dir() else folder_or_config
    if not path.is_file():
        raise CheckpointError(str(folder_or_config), "is not a model folder: no config.json", "give a model folder or its config.json")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(str(path), f"is not JSON: {error}", "give a model's config.json") from error
    return shape_of_config(values, label or path.parent.name)


def known_shapes() -> dict[str, Path]:
    """Configs that come with this release, by name."""
    folder = Path(__file__).parent / "shapes"
    return {"SmolLM2-135M": folder / "smollm2-135m.json", "Llama-3.1-8B": folder / "llama-3.1-8b.json"}


def shape_of_config(values: Mapping[str, Any], label: str) -> ModelShape:
    """Build the model on the meta device: shapes without memory. Raises CheckpointError for a config that transformers does not know."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from osft_engine.attach import find_targets, weight_of

    try:
        config = AutoConfig.for_model(**values)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"is not the config of a causal language model: {str(error).splitlines()[0][:160]}"
        raise CheckpointError(label, what, "give another config.json") from error
    layers = tuple(LayerShape(name, *weight_of(module).shape) for name, module in find_targets(model).items())
    hidden = int(config.hidden_size)
    return ModelShape(
        name=label,
        layers=layers,
        parameters=sum(value.numel() for value in model.parameters()),
        blocks=len({_BLOCK_INDEX.findall(layer.name)[0] for layer in layers}),
        hidden=hidden,
        inner=max(max(layer.out, layer.into) for layer in layers),
    )


def allowed_without_data(m: int, n: int, method: Method, ratio: float) -> AllowedUpdate:
    """The allowed update of an m x n layer with bases on the meta device: the engine's own formulas then count it."""
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
    """One step of AdamW on `tokens` tokens. `ratio` means nothing to full and lora."""
    frozen = sum(layer.out * layer.into for layer in shape.layers)
    bases = effective = 0
    if method == "full":
        trainable = shape.parameters
        extra = float(tokens * frozen)
    elif method == "lora":
        trainable = sum(lora_rank * (layer.out + layer.into) for layer in shape.layers)
        extra = 3.0 * tokens * trainable
    else:
        trainable, bases, effective, extra = _ours(shape, method, ratio, tokens)
    operations = 2.0 * (2.0 * tokens * frozen + extra)  # forward and the gradient of the input; a multiplication and an addition each
    return Cost(
        method=method,
        ratio=ratio,
        trainable=trainable,
        optimizer_bytes=2 * _BYTES * trainable,
        base_bytes=_BYTES * bases,
        memory_bytes=_BYTES * (_copies(method) * trainable + bases + effective) + activation_bytes(shape, tokens) + speeds.overhead_bytes,
        step_seconds=operations / speeds.operations_per_second + trainable * speeds.seconds_per_trained_parameter,
    )


def _copies(method: Method) -> int:
    """Of every trained parameter: gradient and two moments, and the parameter itself where it is not the model's own."""
    return 3 if method == "full" else 4


def _ours(shape: ModelShape, method: Method, ratio: float, tokens: int) -> tuple[int, int, int, float]:
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
        else:  # a dense core: its gradient and its rebuilt weight are each projected once a step
            k = allowed.protected
            extra += count * (tokens * m * n + 2 * 2 * (k * m * n + k * k * n))
    return trainable, bases, effective, extra


@lru_cache(maxsize=64)
def _kinds(shape: ModelShape) -> dict[tuple[int, int, bool], int]:
    """How often each (out, in, reads what its leader reads) occurs: a decoder repeats the same few."""
    followers = tuple(name for group in _SHARED for name in group[1:])
    return dict(Counter((layer.out, layer.into, layer.name.endswith(followers)) for layer in shape.layers))


def activation_bytes(shape: ModelShape, tokens: int) -> float:
    """What backward needs of one pass, for a gated decoder block: about 16 hidden and 5 inner widths a token."""
    return float(_BYTES * min(tokens, _PASS_TOKENS) * shape.blocks * (16 * shape.hidden + 5 * shape.inner))


def load_measured() -> tuple[dict[str, Any], tuple[Measured, ...]]:
    """The engine's measured table that came with this release: (facts, rows)."""
    text = (resources.files("flows.explore") / "measured.json").read_text(encoding="utf-8")
    values = json.loads(text)
    rows = (
        Measured(row["method"], row["tokens"], row["trainable"], row["memory_over_bare_bytes"], row["cpu_seconds"])
        for row in values["results"]
    )
    return dict(values["facts"]), tuple(rows)


_AS_METHOD: dict[str, Method] = {
    "full": "full",
    "ours activations": "activations",
    "ours weights": "weights",
    "ours compact": "weights compact",
    "ours weights_block": "weights_block",
}


def calibrated(shape: ModelShape, measured: Sequence[Measured], tokens: int) -> Speeds:
    """The two speeds and the overhead under which the rows `full` and `lora r=16` come out as measured."""
    rows = {row.method: row for row in measured if row.tokens == tokens}
    full, lora = rows["full"], rows["lora r=16"]
    bare = Speeds(1.0, 0.0, 0.0)
    ops_full, ops_lora = (estimate(shape, method, 1.0, tokens, bare).step_seconds for method in ("full", "lora"))
    # ops / speed + trainable * price = seconds, twice
    price = (full.cpu_seconds * ops_lora - lora.cpu_seconds * ops_full) / (full.trainable * ops_lora - lora.trainable * ops_full)
    price = max(price, 0.0)
    speed = ops_lora / (lora.cpu_seconds - lora.trainable * price)
    overhead = lora.memory_bytes - estimate(shape, "lora", 1.0, tokens, bare).memory_bytes
    return Speeds(speed, price, max(overhead, 0.0))


def error_rows(shape: ModelShape, measured: Sequence[Measured], ratio: float) -> list[dict[str, str]]:
    """Estimate against measurement, row by row; the two that calibrated are said to be."""
    rows = []
    for tokens in sorted({row.tokens for row in measured}):
        speeds = calibrated(shape, measured, tokens)
        for row in (each for each in measured if each.tokens == tokens):
            method = _AS_METHOD.get(row.method, "lora" if row.method.startswith("lora") else None)
            if method is None:  # another library's method, for which there is no formula here
                continue
            rank = int(row.method.partition("=")[2]) if method == "lora" else LORA_RANK
            cost = estimate(shape, method, ratio, tokens, speeds, rank)
            rows.append(
                {
                    "method": row.method,
                    "tokens": str(tokens),
                    "trainable": f"{cost.trainable:,} ({_off(cost.trainable, row.trainable)})",
                    "memory over bare": f"{cost.memory_bytes / 1e9:.2f} GB ({_off(cost.memory_bytes, row.memory_bytes)})",
                    "CPU s a step": f"{cost.step_seconds:.2f} ({_off(cost.step_seconds, row.cpu_seconds)})",
                    "used to calibrate": "yes" if row.method in ("full", "lora r=16") else "no",
                }
            )
    return rows


def _off(estimated: float, measured: float) -> str:
    return "exact" if estimated == measured else f"{estimated / measured - 1:+.0%}"


def worst_error(shape: ModelShape, measured: Sequence[Measured], ratio: float, tokens: int) -> tuple[float, float]:
    """Largest relative error of (memory, time) over the rows that did not calibrate."""
    speeds = calibrated(shape, measured, tokens)
    pairs = [
        (estimate(shape, _AS_METHOD[row.method], ratio, tokens, speeds), row)
        for row in measured
        if row.tokens == tokens and row.method in _AS_METHOD and row.method != "full"
    ]
    memory = max(abs(cost.memory_bytes / row.memory_bytes - 1) for cost, row in pairs)
    return memory, max(abs(cost.step_seconds / row.cpu_seconds - 1) for cost, row in pairs)


Quantity = Literal["trainable parameters", "optimizer memory", "peak memory", "step time"]
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)
_UNITS: dict[Quantity, str] = {
    "trainable parameters": "million parameters",
    "optimizer memory": "GB (AdamW, two float32 moments)",
    "peak memory": "GB over the bare model, float32",
    "step time": "CPU seconds a step",
}


def value_of(cost: Cost, quantity: Quantity) -> float:
    if quantity == "trainable parameters":
        return cost.trainable / 1e6
    if quantity == "optimizer memory":
        return cost.optimizer_bytes / 1e9
    return cost.memory_bytes / 1e9 if quantity == "peak memory" else cost.step_seconds


def in_words(size: float) -> str:
    """Bytes as GB, or MB for small models."""
    return f"{size / 1e9:.2f} GB" if size >= 5e8 else f"{size / 1e6:.1f} MB"


def cost_figure(shape: ModelShape, quantity: Quantity, ratio: float, tokens: int, speeds: Speeds) -> go.Figure:
    """A quantity over the ratio for the four ways of training inside the protected space, with full and LoRA as level lines."""
    figure = go.Figure()
    ratios = [0.05 * step for step in range(1, 20)]
    for method, colour in COLOURS.items():
        values = [value_of(estimate(shape, method, round(each, 2), tokens, speeds), quantity) for each in ratios]
        figure.add_trace(line(method, ratios, values, colour))
    for method, dash in (("full", "dash"), ("lora", "dot")):
        level = value_of(estimate(shape, method, 1.0, tokens, speeds), quantity)
        figure.add_trace(line(f"lora r={LORA_RANK}" if method == "lora" else method, ratios, [level] * len(ratios), "#8a8f98", dash=dash))
    mark(figure, ratio, "your ratio", PURPLE)
    return styled(figure, x="unfreeze_rank_ratio", y=_UNITS[quantity], height=400)


def cost_rows(shape: ModelShape, ratio: float, tokens: int, speeds: Speeds) -> list[dict[str, str]]:
    """Every method at one ratio."""
    rows = []
    for method in METHODS:
        cost = estimate(shape, method, ratio, tokens, speeds)
        rows.append(
            {
                "method": f"lora r={LORA_RANK}" if method == "lora" else method,
                "trainable": f"{cost.trainable:,}",
                "optimizer memory": in_words(cost.optimizer_bytes),
                "memory over bare": in_words(cost.memory_bytes),
                "CPU s a step": f"{cost.step_seconds:.2f}",
            }
        )
    return rows


def sentence(shape: ModelShape, ratio: float, tokens: int, speeds: Speeds) -> str:
    """The default method in words."""
    cost = estimate(shape, "activations", ratio, tokens, speeds)
    return (
        f"{shape.name}, {shape.parameters / 1e6:,.1f} million parameters: activations at ratio {ratio:.2f} trains "
        f"{cost.trainable / 1e6:,.2f} million, AdamW holds {in_words(cost.optimizer_bytes)}, a step of {tokens} tokens takes "
        f"{in_words(cost.memory_bytes)} over the bare model and {cost.step_seconds:.2f} CPU seconds."
    )


def without_overhead(speeds: Speeds) -> Speeds:
    """For models of other sizes: the overhead was measured for one."""
    return replace(speeds, overhead_bytes=0.0)
