"""The spectra of a model's weights, read from its files: before torch and transformers, whose imports and model take several seconds.

Only where the files say all: families whose layers are stored one by one, under the names that transformers gives them. For the others,
and for input energies, the model is loaded (material.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from data_contracts.errors import CheckpointError
from evals.audit.weights import TensorFile, open_weights
from flows.explore.scene import Subject, require_model
from flows.explore.views.spectrum import Floats, input_energies, weight_energies

_FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
_ORDER = (
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
)  # fmt: skip
_IN_A_BLOCK = re.compile(r"model\.layers\.(\d+)\.(.+)\.weight")


@dataclass(frozen=True)
class Spectra:
    """The layers that training would change, in the model's order, and their spectra. files: empty where the model must be loaded."""

    subject: Subject
    text: Path | None
    layers: tuple[str, ...]
    files: Mapping[str, TensorFile]
    stamp: str

    def energies(self, layer: str, *, inputs: bool) -> Floats:
        """Descending energies of a layer: of its inputs, or of its weight."""
        if not inputs and layer in self.files:
            return _file_energies(self.files[layer].path, f"{layer}.weight", self.stamp)
        from flows.explore.material import measurements, open_model

        measured = measurements(open_model(self.subject, self.text))
        return input_energies(measured.moment(layer)) if inputs else measured.weight_energies(layer)


def open_spectra(subject: Subject, text: Path | None) -> Spectra:
    """The layers of a model folder. Raises CheckpointError if it is none, TrainingError if the model must be loaded and cannot be."""
    folder = require_model(subject).folder
    files = open_weights(folder)
    stamp = "-".join(str(path.stat().st_mtime_ns) for path in sorted(folder.glob("*.safetensors")))
    if (layers := plain_layers(folder, files)) is not None:
        return Spectra(subject, text, layers, {name: files[f"{name}.weight"] for name in layers}, stamp)
    from flows.explore.material import open_model

    return Spectra(subject, text, tuple(open_model(subject, text).targets), {}, stamp)


def plain_layers(folder: Path, files: Mapping[str, TensorFile]) -> tuple[str, ...] | None:
    """Names of the layers that training would change, in the model's order, if names and shapes in the files say so; else None."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(str(folder / "config.json"), f"is not JSON: {error}", "give a model's config.json") from error
    if config.get("model_type") not in _FAMILIES or config.get("quantization_config"):
        return None
    found: list[tuple[int, int, str]] = []
    for name, file in files.items():
        match = _IN_A_BLOCK.fullmatch(name)
        if match is None or len(file.header.tensors[name].shape) != 2:
            continue
        if match[2] not in _ORDER:
            return None
        found.append((int(match[1]), _ORDER.index(match[2]), name.removesuffix(".weight")))
    if len(found) != config.get("num_hidden_layers", 0) * len(_ORDER) or not found:
        return None
    return tuple(name for _, _, name in sorted(found))


@lru_cache(maxsize=512)
def _file_energies(path: Path, name: str, stamp: str) -> Floats:
    """`stamp` changes when the file does."""
    return weight_energies(open_weights(path.parent)[name].read(name))
