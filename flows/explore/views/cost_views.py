"""View 3 in figures and words: a quantity over the ratio, all methods at one ratio, the default method in a sentence."""

from __future__ import annotations

from typing import Literal, get_args

import plotly.graph_objects as go

from flows.explore.views.cost import LORA_RANK, METHODS, Cost, Method, Speeds, estimate
from flows.explore.views.figures import BLUE, GREEN, ORANGE, PURPLE, line, mark, styled
from flows.explore.views.model_shape import ModelShape

COLOURS: dict[Method, str] = {"activations": BLUE, "weights": ORANGE, "weights compact": GREEN, "weights_block": PURPLE}
Quantity = Literal["trainable parameters", "optimizer memory", "peak memory", "step time"]
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)
_UNITS: dict[Quantity, str] = {
    "trainable parameters": "million parameters",
    "optimizer memory": "GB (AdamW, two float32 moments)",
    "peak memory": "GB in addition to the bare model, float32",
    "step time": "CPU seconds per step",
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
    """A quantity over the ratio for the four kinds of osft, with full and LoRA as horizontal lines."""
    figure = go.Figure()
    ratios = [0.05 * step for step in range(1, 20)]
    for method, colour in COLOURS.items():
        values = [value_of(estimate(shape, method, round(each, 2), tokens, speeds), quantity) for each in ratios]
        figure.add_trace(line(method, ratios, values, colour))
    for method, dash in (("full", "dash"), ("lora", "dot")):
        level = value_of(estimate(shape, method, 1.0, tokens, speeds), quantity)
        figure.add_trace(line(f"lora r={LORA_RANK}" if method == "lora" else method, ratios, [level] * len(ratios), "#8a8f98", dash=dash))
    mark(figure, ratio, "chosen ratio", PURPLE)
    return styled(figure, x="unfreeze_rank_ratio", y=_UNITS[quantity], height=400)


def cost_rows(shape: ModelShape, ratio: float, tokens: int, speeds: Speeds) -> list[dict[str, str]]:
    """All methods at one ratio."""
    rows = []
    for method in METHODS:
        cost = estimate(shape, method, ratio, tokens, speeds)
        rows.append(
            {
                "method": f"lora r={LORA_RANK}" if method == "lora" else method,
                "trainable": f"{cost.trainable:,}",
                "optimizer memory": in_words(cost.optimizer_bytes),
                "memory over bare": in_words(cost.memory_bytes),
                "CPU s per step": f"{cost.step_seconds:.2f}",
            }
        )
    return rows


def sentence(shape: ModelShape, ratio: float, tokens: int, speeds: Speeds) -> str:
    """The default method in words."""
    cost = estimate(shape, "activations", ratio, tokens, speeds)
    return (
        f"{shape.name}, {shape.parameters / 1e6:,.1f} million parameters: activations at ratio {ratio:.2f} trains "
        f"{cost.trainable / 1e6:,.2f} million, AdamW holds {in_words(cost.optimizer_bytes)}, a step of {tokens} tokens takes "
        f"{in_words(cost.memory_bytes)} in addition to the bare model and {cost.step_seconds:.2f} CPU seconds."
    )
