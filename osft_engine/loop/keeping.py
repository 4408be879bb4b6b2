"""General text kept while a skill is learned: what the update does to the model's answers there counts beside the drop's loss.

Even the directions in which general text has least energy have some, and a step moves all of them alike: AdamW makes every number's step
as large as any other's, whatever the drop has to say about it. So the estimate of what the update changes is added to the loss. To second
order, and with the layers and a layer's inputs and gradients taken as independent, the divergence of the updated model from the champion is

    KL ~ 1/2 sum over layers of sum_i g_i (C K C^T)_ii        nats per token

with dW = C R^T, K = E[R^T x x^T R] over the tokens x of general text that the layer reads, and g_i the mean square of the gradient of
-log p(token) by the layer's output i, tokens drawn from the champion itself (the Fisher metric). That is K-FAC (Martens and Grosse 2015,
arXiv:1503.05671) with the diagonal of the outputs' factor, used as elastic weight consolidation uses its own (Kirkpatrick et al. 2017,
arXiv:1612.00796; Ritter et al. 2018, arXiv:1805.07810). It is measured once, costs no pass over text in a step, and is zero at the
champion.

Shape legend: W is out x in (m x n), R is n x r, C is m x r, K is r x r, g is m.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from data_contracts.errors import TrainingError
from osft_engine.compute.forward import read_rows, run_model
from osft_engine.data.batches import MicroBatch
from osft_engine.loop.prepare import Scene, general_examples, sample_examples
from osft_engine.method.attach import Attachment, OsftAttachment
from osft_engine.subspace.linear import UpdatedLinear


@dataclass(frozen=True)
class Sensitivity:
    """Of one layer on a text: K (r x r) of its inputs along R, g (m) of its outputs; both float32, means over the tokens."""

    inputs: Tensor
    outputs: Tensor


class Keeper:
    """Adds what the update changes on general text to the gradients of a step, times `weight`."""

    def __init__(self, layers: Mapping[str, UpdatedLinear], measured: Mapping[str, Sensitivity], weight: float) -> None:
        self._layers = [(layers[name], found) for name, found in measured.items()]
        self._weight = weight

    @torch.no_grad()
    def add_gradients(self) -> float:
        """Call after the drop's backward pass. Returns the estimate (nats per token) at the parameters as they are, without the weight."""
        total: Tensor | float = 0.0
        for layer, found in self._layers:
            slope = found.outputs[:, None] * (layer.core @ found.inputs)
            total = total + 0.5 * (layer.core * slope).sum()
            if layer.core.grad is None:
                layer.core.grad = torch.zeros_like(layer.core)
            layer.core.grad.add_(slope, alpha=self._weight)
        return float(total)


def open_keeper(scene: Scene, attachment: Attachment) -> Keeper | None:
    """What `train.keep_general` asks for, measured on the untrained attachment, which answers as the champion does. None where it asks for
    nothing, and under the methods it does not apply to. Raises TrainingError where nothing could be measured."""
    config = scene.config
    if not config.keep_general or not isinstance(attachment, OsftAttachment):
        return None
    batches = sample_examples(scene.model, general_examples(scene), config)
    measured = measure_sensitivity(attachment.model, attachment.layers, batches, config.seed)
    if not measured:
        what = "finds no layer that general text reaches by itself: experts are computed together"
        raise TrainingError("train.keep_general", what, "set it to 0, or name other layers in target_patterns")
    return Keeper(attachment.layers, measured, config.keep_general)


def measure_sensitivity(
    model: Any, layers: Mapping[str, UpdatedLinear], batches: Sequence[MicroBatch], seed: int
) -> dict[str, Sensitivity]:
    """Of every layer on the batches. The parameters, their gradients and the model's mode are left as they are.

    Layers whose forward pass is not their own (experts, which are computed together) are left out.
    """
    found = {name: [torch.zeros(()), torch.zeros(())] for name in layers}
    mask: Tensor | None = None
    was_training, device = model.training, next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)

    def watch(name: str, layer: UpdatedLinear, inputs: tuple[Any, ...], output: Tensor) -> None:
        x = read_rows(inputs[0].detach(), inputs, mask).to(torch.float32)
        right = layer.allowed.right
        reduced = x if right is None else x @ right.to(x)
        seen = mask  # of this batch: the gradient comes later
        found[name][0] = found[name][0].to(x.device) + reduced.T @ reduced

        def take(gradient: Tensor) -> None:
            rows = read_rows(gradient.detach(), inputs, seen).to(torch.float32)
            found[name][1] = found[name][1].to(rows.device) + rows.square().sum(0)

        output.register_hook(take)  # type: ignore[no-untyped-call]

    hooks = [
        layer.register_forward_hook(lambda _, inputs, output, name=name, layer=layer: watch(name, layer, inputs, output))
        for name, layer in layers.items()
    ]
    model.eval()
    try:
        for batch in batches:
            moved = batch.to(device)
            mask = None if moved.attention_mask is None else moved.attention_mask.reshape(-1).bool()
            logits = run_model(model, moved).to(torch.float32)
            drawn = torch.multinomial(torch.softmax(logits.detach(), -1).cpu(), 1, generator=generator)[:, 0].to(device)
            loss = torch.nn.functional.cross_entropy(logits, drawn, reduction="sum")
            loss.backward(inputs=[layer.core for layer in layers.values()])  # type: ignore[no-untyped-call]
    finally:
        for hook in hooks:
            hook.remove()
        for layer in layers.values():
            layer.core.grad = None
        model.train(was_training)
    tokens = sum(batch.tokens for batch in batches)
    return {name: Sensitivity(K / tokens, g / tokens) for name, (K, g) in found.items() if g.dim()}
