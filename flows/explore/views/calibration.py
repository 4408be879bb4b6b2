"""The engine's measured table, the speeds from two of its rows, and the errors of the estimates for all other rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

from flows.explore.views.cost import LORA_RANK, Method, Speeds, estimate
from flows.explore.views.model_shape import ModelShape


@dataclass(frozen=True)
class Measured:
    method: str
    tokens: int
    trainable: int
    memory_bytes: int
    cpu_seconds: float


def load_measured() -> tuple[dict[str, Any], tuple[Measured, ...]]:
    """The engine's measured table of this release: (facts, rows)."""
    text = (resources.files("flows.explore.views") / "measured.json").read_text(encoding="utf-8")
    values = json.loads(text)
    rows = (
        Measured(row["method"], row["tokens"], row["trainable"], row["memory_over_bare_bytes"], row["cpu_seconds"])
        for row in values["results"]
    )
    return dict(values["facts"]), tuple(rows)


_AS_METHOD: dict[str, Method] = {
    "full": "full",
    "osft activations": "activations",
    "osft weights": "weights",
    "osft compact": "weights compact",
    "osft weights_block": "weights_block",
}


def calibrated(shape: ModelShape, measured: Sequence[Measured], tokens: int) -> Speeds:
    """The two speeds and the overhead for which the estimates of `full` and `lora r=16` equal their measurements."""
    rows = {row.method: row for row in measured if row.tokens == tokens}
    full, lora = rows["full"], rows["lora r=16"]
    bare = Speeds(1.0, 0.0, 0.0)
    ops_full, ops_lora = (estimate(shape, method, 1.0, tokens, bare).step_seconds for method in ("full", "lora"))
    # solve ops / speed + trainable * price = seconds for both rows
    price = (full.cpu_seconds * ops_lora - lora.cpu_seconds * ops_full) / (full.trainable * ops_lora - lora.trainable * ops_full)
    price = max(price, 0.0)
    speed = ops_lora / (lora.cpu_seconds - lora.trainable * price)
    overhead = lora.memory_bytes - estimate(shape, "lora", 1.0, tokens, bare).memory_bytes
    return Speeds(speed, price, max(overhead, 0.0))


def error_rows(shape: ModelShape, measured: Sequence[Measured], ratio: float) -> list[dict[str, str]]:
    """Estimates and measurements, row by row; a column says which rows calibrate the estimate."""
    rows = []
    for tokens in sorted({row.tokens for row in measured}):
        speeds = calibrated(shape, measured, tokens)
        for row in (each for each in measured if each.tokens == tokens):
            method = _AS_METHOD.get(row.method, "lora" if row.method.startswith("lora") else None)
            if method is None:  # a method of another library, without a formula here
                continue
            rank = int(row.method.partition("=")[2]) if method == "lora" else LORA_RANK
            cost = estimate(shape, method, ratio, tokens, speeds, rank)
            rows.append(
                {
                    "method": row.method,
                    "tokens": str(tokens),
                    "trainable": f"{cost.trainable:,} ({_off(cost.trainable, row.trainable)})",
                    "memory over bare": f"{cost.memory_bytes / 1e9:.2f} GB ({_off(cost.memory_bytes, row.memory_bytes)})",
                    "CPU s per step": f"{cost.step_seconds:.2f} ({_off(cost.step_seconds, row.cpu_seconds)})",
                    "used to calibrate": "yes" if row.method in ("full", "lora r=16") else "no",
                }
            )
    return rows


def _off(estimated: float, measured: float) -> str:
    return "exact" if estimated == measured else f"{estimated / measured - 1:+.0%}"


def without_overhead(speeds: Speeds) -> Speeds:
    """For models of other sizes: the overhead was measured for one model."""
    return replace(speeds, overhead_bytes=0.0)
