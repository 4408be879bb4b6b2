"""The shape of a model from its config alone: the layers that the engine would train, and the widths that memory depends on."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from data_contracts.errors import CheckpointError

_BLOCK_INDEX = re.compile(r"\.\d+\.")


@dataclass(frozen=True)
class LayerShape:
    name: str
    out: int
    into: int


@dataclass(frozen=True)
class ModelShape:
    """The shape of a model. `parameters` counts each tied weight once; hidden and inner are widths in floats per token."""

    name: str
    layers: tuple[LayerShape, ...]
    parameters: int
    blocks: int
    hidden: int
    inner: int


def read_shape(folder_or_config: Path, label: str = "") -> ModelShape:
    """The shape of a model folder or a config.json. Raises CheckpointError for anything else."""
    path = folder_or_config / "config.json" if folder_or_config.is_dir() else folder_or_config
    if not path.is_file():
        raise CheckpointError(str(folder_or_config), "is not a model folder: no config.json", "give a model folder or its config.json")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(str(path), f"is not JSON: {error}", "give a model's config.json") from error
    return shape_of_config(values, label or path.parent.name)


def known_shapes() -> dict[str, Path]:
    """Included configs, by name."""
    folder = Path(__file__).parent / "shapes"
    return {"SmolLM2-135M": folder / "smollm2-135m.json", "Llama-3.1-8B": folder / "llama-3.1-8b.json"}


def shape_of_config(values: Mapping[str, Any], label: str) -> ModelShape:
    """Build the model on the meta device, without memory. Raises CheckpointError for a config that transformers does not know."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from osft_engine.method.attach import find_targets, weight_of

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
