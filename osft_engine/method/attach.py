"""Puts a training method onto a model and takes it off again: which layers are trained, in which form, and how they become dense.

An attachment owns the trainable parameters. Its life: attach -> (backward, before_step, optimiser step, after_step)* -> merge.
After `merge` the model is an ordinary transformers model again, with the effective weights bit for bit.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol, cast

import torch
from torch import Tensor, nn

from data_contracts.errors import ConfigError
from osft_engine.compute.distributed import whole, whole_state
from osft_engine.compute.peak_memory import device_memory
from osft_engine.method.experts import ExpertLinear, OpenExperts, close_experts, open_experts, opened_experts
from osft_engine.subspace.linear import (
    Execution,
    SharedProjection,
    UpdatedLinear,
    choose_execution,
    float32_cost,
    may_run_beside,
    training_bytes,
)
from osft_engine.subspace.protection import AllowedUpdate

_IN_A_BLOCK = re.compile(r"\.\d+\.")  # a decoder block is an entry of a ModuleList: its children's names hold its index
_ROUTER = re.compile(r"(^|\.)(gate|router|router_gate|shared_expert_gate)(\.|$)")  # the linear layer itself, or a module that holds it


class Attachment(Protocol):
    """A model prepared for training by one method."""

    model: Any

    def trainable(self) -> dict[str, nn.Parameter]:
        """What the optimiser moves, by name, in a fixed order."""
        ...

    def before_step(self) -> None:
        """Make the gathered gradients those of the update, before they are clipped and used."""
        ...

    def after_step(self) -> None:
        """Bring the model up to date with its trainable parameters."""
        ...

    def dense_state(self) -> dict[str, Tensor]:
        """The dense weights by their usual names, without changing the model. A collective where it is sharded."""
        ...

    def merge(self) -> Any:
        """Make the model dense and plain again, and return it."""
        ...


def is_linear(module: nn.Module) -> bool:
    """A plain matrix: torch's Linear, or GPT-2's Conv1D (the same map with its weight stored in x out)."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def weight_of(module: nn.Module) -> Tensor:
    """The weight as out x in, whatever way the layer stores it; a 4-bit one is dequantised."""
    stored: Tensor = module.weight  # type: ignore[assignment]
    weight = stored.detach()
    if hasattr(stored, "quant_state"):
        from bitsandbytes.functional import dequantize_4bit

        return dequantize_4bit(weight, stored.quant_state)  # type: ignore[no-any-return, unused-ignore]
    return weight.T.contiguous() if is_transposed(module) else weight


def is_transposed(module: nn.Module) -> bool:
    """Whether a layer stores its weight in x out."""
    return not isinstance(module, nn.Linear)


def find_targets(model: nn.Module, patterns: Sequence[str] = ()) -> dict[str, nn.Module]:
    """The linear layers to train, by name, in the model's order.

    Without patterns: every linear layer inside the decoder blocks but routers, and those whose weight several layers share. Embeddings and
    the output head are never targets. The matrices of fused experts are layers of their own, `experts.3.down_proj`: the model's experts are
    opened for that (experts.py). Raises ConfigError where a pattern matches no linear layer or one that shares its weight, where there is
    nothing to train, and for experts that cannot be opened.
    """
    open_experts(model)
    find_head = getattr(model, "get_output_embeddings", None)
    head = find_head() if find_head is not None else None
    linear = {name: module for name, module in model.named_modules() if is_linear(module) and module is not head}
    if patterns:
        for pattern in patterns:
            if not any(re.search(pattern, name) for name in linear):
                raise ConfigError(
                    "target_patterns", f"{pattern!r} matches no linear layer", f"names look like {', '.join(list(linear)[:3]) or 'none'}"
                )
        chosen = {name: module for name, module in linear.items() if any(re.search(pattern, name) for pattern in patterns)}
        if shared := shared_weights(model, chosen):
            what = f"names {shared[0]}, whose weight other layers share: one update for each of them would not be one update of the weight"
            raise ConfigError("target_patterns", what, "leave such layers out; without target_patterns they stay as they are")
        return chosen
    _refuse_fused_experts(model)
    targets = {name: module for name, module in linear.items() if _IN_A_BLOCK.search(name) and not _ROUTER.search(name)}
    shared = shared_weights(model, targets)
    if shared:
        print(f"warning: {len(shared)} layers share their weight with others (such as {shared[0]}) and stay as they are", file=sys.stderr)
    targets = {name: module for name, module in targets.items() if name not in shared}
    if not targets:
        raise ConfigError(type(model).__name__, "has no linear layers inside decoder blocks", "name the layers with target_patterns")
    return targets


def shared_weights(model: nn.Module, layers: Mapping[str, nn.Module]) -> list[str]:
    """Names of the layers whose weight is a parameter of other modules too (Zamba's blocks), or that several modules hold as their own.

    A whole block that appears at several places is none of these: its layers are the same everywhere.
    """
    places: dict[int, set[tuple[int, str]]] = {}
    modules = dict(model.named_modules(remove_duplicate=False))
    for name, module in modules.items():
        if (weight := dict(module.named_parameters(recurse=False)).get("weight")) is not None:
            owner, _, leaf = name.rpartition(".")
            places.setdefault(id(weight), set()).add((id(modules[owner]), leaf))
    return [name for name, module in layers.items() if len(places.get(id(module.weight), ())) > 1]


def _refuse_fused_experts(model: nn.Module) -> None:
    fused = [
        f"{name}.{own}".removeprefix(".")
        for name, module in model.named_modules()
        if not isinstance(module, OpenExperts)
        for own, parameter in module.named_parameters(recurse=False)
        if parameter.dim() == 3 and "expert" in f"{name}.{own} {type(module).__name__}".lower()
    ]
    if fused:
        raise ConfigError(
            type(model).__name__,
            f"keeps its experts in fused 3-D parameters such as {fused[0]}, of a form that cannot be taken apart into matrices",
            "train the other layers by naming them in target_patterns, for instance 'self_attn'",
        )


class OsftAttachment:
    """Targets replaced by UpdatedLinear, those of experts computed together; everything else frozen but what `train_other` names."""

    def __init__(
        self,
        model: Any,
        targets: Mapping[str, nn.Module],
        allowed: Mapping[str, AllowedUpdate],
        train_other: Sequence[str] = (),
        *,
        execution: Literal["auto", "dense", "side"] = "auto",
        tokens_per_step: float = 4096.0,
    ) -> None:
        self.model = model
        self._originals = dict(targets)
        model.requires_grad_(False)
        self._other_names = tuple(_named_parameters(model, train_other, exclude=set(targets) | _owners_of_experts(targets)))
        self.layers: dict[str, UpdatedLinear] = {}
        moved: dict[int, Tensor] = {}
        shared: dict[int, tuple[SharedProjection, nn.Parameter]] = {}  # a basis that layers share stays one tensor on the device
        memory = device_memory(next(model.parameters()).device)
        ways = choose_executions(targets, allowed, execution, tokens_per_step, model_bytes=_bytes_of(model), memory=memory)
        for name, module in targets.items():
            weight, bias = weight_of(module), module.bias
            update, way = allowed[name], ways[name]
            if (
                way == "dense"
            ):  # rebuilt every step; beside the weight, the float32 bases are needed at the end only and may stay where they are
                update = replace(update.to(weight.device), right=_moved_once(update.right, weight.device, moved))
            layer = UpdatedLinear(weight, bias, update, way, *shared.get(id(allowed[name].right), ()))  # type: ignore[arg-type]
            if layer.right is not None:
                shared[id(allowed[name].right)] = (layer.projection, layer.right)
            self.layers[name] = layer
            self.replace(name, layer)
        for _, experts in opened_experts(model):
            experts.join()
        for parameter in self.others.values():
            parameter.requires_grad_(True)

    @property
    def others(self) -> dict[str, nn.Parameter]:
        """What `train_other` names, as the model has it now: sharding puts other parameters in the place of those that were there."""
        return {name: self.model.get_parameter(name) for name in self._other_names}

    def trainable(self) -> dict[str, nn.Parameter]:
        return {f"{name}.core": layer.core for name, layer in self.layers.items()} | self.others

    def transposed(self) -> tuple[str, ...]:
        """Targets whose own weight is kept as in x out."""
        return tuple(name for name, module in self._originals.items() if is_transposed(module))

    def experts(self) -> dict[str, int]:
        """Modules of fused experts, and how many each has."""
        return {name: module.fused.num_experts for name, module in opened_experts(self.model)}

    def before_step(self) -> None:
        for layer in self.layers.values():
            layer.restrict_gradient()

    def after_step(self) -> None:
        for layer in self.layers.values():
            layer.rebuild()

    def leaks(self) -> dict[str, float]:
        """Of the effective weights as they are, against the untouched ones."""
        return {name: layer.allowed.leak(layer.dense().double() - whole(layer.weight).double()) for name, layer in self.layers.items()}

    @torch.no_grad()
    def dense_state(self) -> dict[str, Tensor]:
        state = whole_state(self.model, without=[f"{name}." for name in self.layers])
        for name, experts in opened_experts(self.model):
            state |= {f"{name}.{matrix}": experts.whole(matrix) for matrix in experts.matrices}
        for name, layer in self.layers.items():
            if not isinstance(self._originals[name], ExpertLinear):
                weight = layer.dense()
                state[f"{name}.weight"] = weight.T.contiguous() if is_transposed(self._originals[name]) else weight
        return state

    @torch.no_grad()
    def merge(self) -> Any:
        for name, module in self._originals.items():
            weight: Tensor = module.weight  # type: ignore[assignment]
            effective = self.layers[name].dense()
            weight.copy_(effective.T if is_transposed(module) else effective)
            self.replace(name, module)
        close_experts(self.model)
        return self.model

    def replace(self, name: str, module: nn.Module) -> None:
        """Put a module in the place of the one that the model has under a name."""
        owner, _, leaf = name.rpartition(".")
        setattr(self.model.get_submodule(owner), leaf, module)


def choose_executions(
    targets: Mapping[str, nn.Module],
    allowed: Mapping[str, AllowedUpdate],
    execution: Literal["auto", "dense", "side"],
    tokens_per_step: float,
    *,
    model_bytes: int = 0,
    memory: int | None = None,
) -> dict[str, Execution]:
    """How each target is run: as set, or the cheaper way; beside their weights all that can be where that way would not leave half of the
    device's `memory` (bytes) to the passes. model_bytes: of the frozen model.

    One matrix of all experts of a layer is run in one way, by the first that is trained; an update without thin factors is always dense.
    """
    found: dict[str, Execution] = {}
    together: dict[tuple[str, str], Execution] = {}
    needed = model_bytes
    for name, module in targets.items():
        update, weight = allowed[name], cast(Tensor, module.weight)
        tokens = tokens_per_step * (module.expected_share if isinstance(module, ExpertLinear) else 1.0)
        way = choose_execution(update, tokens, float32_cost(weight)) if execution == "auto" or update.block is not None else execution
        if isinstance(module, ExpertLinear):
            owner, _, matrix = name.rpartition(".")
            way = together.setdefault((owner.rpartition(".")[0], matrix), way)
        found[name] = way
        needed += training_bytes(update, weight.element_size(), way)
    if execution == "auto" and memory is not None and needed > memory / 2:
        return {name: "side" if may_run_beside(allowed[name]) else way for name, way in found.items()}
    return found


def _owners_of_experts(targets: Mapping[str, nn.Module]) -> set[str]:
    """Modules whose fused parameters hold a target."""
    return {name.rsplit(".", 2)[0] for name, module in targets.items() if isinstance(module, ExpertLinear)}


def _bytes_of(model: nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def _moved_once(basis: Tensor | None, device: torch.device, moved: dict[int, Tensor]) -> Tensor | None:
    if basis is None:
        return None
    if id(basis) not in moved:
        moved[id(basis)] = basis.to(device)
    return moved[id(basis)]


def allowed_updates(targets: Mapping[str, nn.Module], build: Callable[[str, Tensor], AllowedUpdate]) -> dict[str, AllowedUpdate]:
    """The allowed update of every target, from a function of its name and its weight (out x in)."""
    return {name: build(name, weight_of(module)) for name, module in targets.items()}


def _named_parameters(model: nn.Module, patterns: Sequence[str], exclude: set[str]) -> dict[str, nn.Parameter]:
    candidates = {name: value for name, value in model.named_parameters() if name.rpartition(".")[0] not in exclude}
    for pattern in patterns:
        if not any(re.search(pattern, name) for name in candidates):
            raise ConfigError(
                "train_other", f"{pattern!r} matches no parameter outside the targets", f"names look like {', '.join(list(candidates)[:3])}"
            )
    return {name: value for name, value in candidates.items() if any(re.search(pattern, name) for pattern in patterns)}
