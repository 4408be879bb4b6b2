"""Tensors for the views: weights, input moments, importances and gradients of a model folder, each computed once per process.

The text comes from the config's calibration file, or else from sample.jsonl beside this file. A page should respond within a second, so
the measurements use a few hundred tokens, and the pages say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import RLock
from typing import Any

import torch
from torch import Tensor, nn

from data_contracts.errors import CheckpointError
from data_contracts.rendering import TextRenderer
from evals.audit.weights import open_weights
from flows.explore.geometry import Layer
from flows.explore.scene import Subject, require_model
from flows.explore.views.constraint import input_frame, rotate, weight_frame
from flows.explore.views.spectrum import Floats, weight_energies
from osft_engine.checkpoint.read import load_model, load_tokenizer
from osft_engine.compute.forward import summed_loss
from osft_engine.config import Protect, TrainConfig
from osft_engine.data.batches import MicroBatch, micro_batches
from osft_engine.data.examples import Example
from osft_engine.loop.probe import reachable_targets
from osft_engine.memory.calibration import calibration_examples
from osft_engine.memory.moments import LayerMoments, measure_moments
from osft_engine.memory.subspace_memory import load_memory
from osft_engine.method.attach import weight_of
from osft_engine.method.ranks import measure_importance

SAMPLE = Path(__file__).parent / "sample.jsonl"
SAMPLE_TOKENS = 384
_LOOKING = TrainConfig(device="cpu", dtype="float32")
_PASSES = RLock()  # pages have a thread each and share a model: hooks of one measurement would be called in the passes of another


@dataclass(frozen=True)
class Model:
    """A loaded model and its text. `key` changes when the folder's weights change. memory: the file of its subspace memory."""

    key: str
    module: Any
    targets: Mapping[str, nn.Module]
    batches: Sequence[MicroBatch]
    memory: Path | None

    @property
    def tokens(self) -> int:
        return sum(batch.tokens for batch in self.batches)


def open_model(subject: Subject, text: Path | None) -> Model:
    """Load a model and some text. Raises CheckpointError if the folder is not a model, TrainingError if the text cannot be used."""
    folder = require_model(subject).folder
    open_weights(folder)  # reads the headers: a broken file is an error of one line, before transformers reads it
    stamp = "-".join(str(path.stat().st_mtime_ns) for path in sorted(folder.glob("*.safetensors")))
    with _PASSES:  # two pages that open at once load it once
        return _open(folder, stamp, text if text is not None and text.is_file() else SAMPLE, subject.memory)


@lru_cache(maxsize=3)
def _open(folder: Path, stamp: str, text: Path, memory: Path | None) -> Model:
    module = load_model(folder, _LOOKING)
    module.eval()
    module.requires_grad_(False)
    tokenizer = load_tokenizer(folder, _LOOKING)
    found = calibration_examples(text, module, TextRenderer(tokenizer), tokens=SAMPLE_TOKENS, max_tokens=SAMPLE_TOKENS, seed=0)
    chosen: list[Example] = []
    total = 0
    for example in found:
        if chosen and total + len(example.ids) > SAMPLE_TOKENS:
            break
        chosen.append(example)
        total += len(example.ids)
    batches = micro_batches(chosen, max_tokens=SAMPLE_TOKENS, layout="padded")
    return Model(f"{folder}@{stamp}:{text}", module, reachable_targets(module), batches, memory)


class Measurements:
    """Measurements of a model's layers, cached by model and layer."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._moments: LayerMoments | None = None
        self._importance: dict[str, float] | None = None

    def weight(self, layer: str) -> Tensor:
        """W, out x in."""
        if layer not in self.model.targets:
            raise CheckpointError(
                layer, "is not a layer that training would change", f"layers have names like {next(iter(self.model.targets))}"
            )
        return weight_of(self.model.targets[layer])

    @lru_cache(maxsize=512)  # noqa: B019  (measurements live as long as the process, see `measurements`)
    def weight_energies(self, layer: str) -> Floats:
        """Squared singular values in descending order."""
        return weight_energies(self.weight(layer).to(torch.float32).numpy())

    @lru_cache(maxsize=64)  # noqa: B019
    def moment(self, layer: str) -> Tensor:
        """Input second moment: from the model's subspace memory if it has one, else measured on the sample."""
        if self.model.memory is not None:
            memory = load_memory(self.model.memory)
            if layer in memory.leaders:
                return memory.moment(layer)
        with _PASSES:
            if self._moments is None:
                self._moments = measure_moments(self.model.module, self.model.targets, self.model.batches)
        return self._moments.moments[self._moments.leaders[layer]]

    def importance(self) -> dict[str, float]:
        """Similarity of output and input of every layer, on the sample."""
        with _PASSES:
            if self._importance is None:
                self._importance = measure_importance(self.model.module, self.model.targets, self.model.batches)
        return self._importance

    @lru_cache(maxsize=16)  # noqa: B019
    def gradient(self, layer: str) -> Tensor:
        """Gradient of the mean loss on the sample with respect to W, out x in."""
        with _PASSES:
            total = self._gradient(layer)
        return total if isinstance(self.model.targets[layer], nn.Linear) else total.T

    def _gradient(self, layer: str) -> Tensor:
        """As the layer stores its weight."""
        module = self.model.targets[layer]
        weight: Tensor = module.weight  # type: ignore[assignment]
        weight.requires_grad_(True)
        try:
            count = sum(len(batch.targets) for batch in self.model.batches)
            total = torch.zeros_like(weight)
            for batch in self.model.batches:
                total += torch.autograd.grad(summed_loss(self.model.module, batch) / count, weight)[0]
        finally:
            weight.requires_grad_(False)
        return total

    @lru_cache(maxsize=8)  # noqa: B019
    def layer(self, layer: str) -> Layer:
        """Weight, gradient and input moment for the view of geometry, in float64."""
        weight, gradient, moment = self.weight(layer), self.gradient(layer), self.moment(layer)
        return Layer(*(each.detach().to(torch.float64).numpy() for each in (weight, gradient, moment)))

    @lru_cache(maxsize=32)  # noqa: B019
    def frame(self, layer: str, *, inputs: bool) -> tuple[Tensor, Tensor]:
        """The rotated frame in which a constraint is a mask (constraint.py)."""
        W = self.weight(layer)
        return input_frame(W, self.moment(layer)) if inputs else weight_frame(W)

    def rotated(self, layer: str, dW: Tensor, protect: Protect) -> Tensor:
        return rotate(dW, self.frame(layer, inputs=protect == "activations"))

    @lru_cache(maxsize=32)  # noqa: B019
    def rotated_gradient(self, layer: str, protect: Protect) -> Tensor:
        same: Protect = "weights" if protect == "weights_block" else protect
        return self.rotated(layer, self.gradient(layer), protect) if same == protect else self.rotated_gradient(layer, same)


_known: dict[tuple[str, Path | None], Measurements] = {}
_MODELS = 3  # loaded at the same time


def measurements(model: Model) -> Measurements:
    """The measurements of a model, one object per process."""
    key = (model.key, model.memory)
    if key not in _known:
        while len(_known) >= _MODELS:
            _known.pop(next(iter(_known)), None)
        _known[key] = Measurements(model)
    return _known[key]


def weight_difference(before: Path, after: Path, layer: str) -> Tensor:
    """The update of one layer in a round: W_after - W_before (out x in) of two model folders. Raises CheckpointError if one lacks it."""
    name = f"{layer}.weight"
    found = []
    for folder in (before, after):
        files = open_weights(folder)
        if name not in files:
            raise CheckpointError(str(folder), f"has no tensor {name}", "choose another layer or round")
        found.append(torch.from_numpy(files[name].read(name)))
    return found[1] - found[0]
