"""An osft update as a PEFT LoRA adapter: exact, or truncated to a share of its energy, with the error reported.

dW = left right^T is what a LoRA adapter is (B = left, A = right^T, alpha = rank), so any runtime that serves adapters can serve a round.
The experts that a model keeps in one fused parameter are one entry of the adapter (PEFT's target_parameters), of one rank.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from data_contracts.errors import CheckpointError, ConfigError
from data_contracts.files import write_atomically
from data_contracts.manifests import CheckpointManifest, read_manifest
from osft_engine.checkpoint.update import RoundUpdate, read_update
from osft_engine.files import save_tensors
from osft_engine.subspace.protection import LayerUpdate


@dataclass(frozen=True)
class AdapterExport:
    """What was written. relative_error: ||dW - adapter|| / ||dW|| over all layers; ranks by layer."""

    ranks: Mapping[str, int]
    relative_error: float


def truncate_update(update: LayerUpdate, energy: float) -> tuple[Tensor, Tensor, float]:
    """(B: m x k, A: k x n, squared error) of the smallest k that holds `energy` of the update's squared norm."""
    if update.right is not None and energy >= 1.0:
        return update.left, update.right.T.contiguous(), 0.0
    right = torch.eye(update.left.shape[1]) if update.right is None else update.right
    Ql, Rl = torch.linalg.qr(update.left.to(torch.float64))
    Qr, Rr = torch.linalg.qr(right.to(torch.float64))
    U, values, Vt = torch.linalg.svd(Rl @ Rr.T, full_matrices=False)
    squares = values.square()
    total = float(squares.sum())
    count = len(values) if energy >= 1.0 else int((squares.cumsum(0) < energy * total).sum()) + 1
    B, A = Ql @ (U[:, :count] * values[:count]), (Qr @ Vt[:count].T).T
    return B.to(torch.float32), A.to(torch.float32).contiguous(), float(squares[count:].sum())


def add_updates(updates: Sequence[LayerUpdate]) -> LayerUpdate:
    """The sum of updates of one layer. Factors are put side by side while that is thinner than the layer, else the sum is dense."""
    first = updates[0]
    if len(updates) == 1:
        return first
    rights = [each.right for each in updates if each.right is not None]
    m, n = first.left.shape[0], rights[0].shape[0] if rights else first.left.shape[1]
    if len(rights) < len(updates) or sum(right.shape[1] for right in rights) > min(m, n):
        return LayerUpdate(torch.stack([each.dense() for each in updates]).sum(0), None)
    return LayerUpdate(torch.cat([each.left for each in updates], dim=1), torch.cat(rights, dim=1))


def export_adapter(checkpoint: Path | Sequence[Path], out_dir: Path, *, base: str, energy: float = 1.0) -> AdapterExport:
    """Write the update of a checkpoint folder as an adapter for `base`, the model that the round started from.

    Several folders are rounds in a row, oldest first: the adapter holds the sum of their updates, for the model that the first began with.
    `energy` in (0, 1] is the share of each layer's squared update that is kept. Raises CheckpointError where a checkpoint has no update,
    or one that an adapter cannot hold.
    """
    if not 0.0 < energy <= 1.0:
        raise ConfigError("energy", f"is {energy}, not in (0, 1]", "1.0 exports the update exactly")
    rounds = [_readable_update(folder) for folder in ([checkpoint] if isinstance(checkpoint, Path) else checkpoint)]
    layers = list(dict.fromkeys(name for each in rounds for name in each.layers))
    experts = {name: count for each in rounds for name, count in each.experts.items()}
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    fused: dict[str, dict[int, tuple[Tensor, Tensor]]] = {}
    lost = total = 0.0
    for name in layers:
        update = add_updates([each.layers[name] for each in rounds if name in each.layers])
        B, A, missing = truncate_update(update, energy)
        owner, number, matrix = [*name.rsplit(".", 2), "", ""][:3]
        if owner in experts:
            fused.setdefault(f"{owner}.{matrix}", {})[int(number)] = (B, A)
        else:
            tensors[f"base_model.model.{name}.lora_B.weight"], tensors[f"base_model.model.{name}.lora_A.weight"] = B.clone(), A.clone()
            ranks[name] = B.shape[1]
        lost += missing
        total += float(update.dense().double().square().sum())
    for parameter, factors in fused.items():
        owner, _, matrix = parameter.rpartition(".")
        B, A = _of_all_experts(factors, experts[owner])
        # PEFT wraps a module once for each of its parameters, in their order: the last one, down_proj, is the outermost.
        within = "base_layer." if matrix != "down_proj" and f"{owner}.down_proj" in fused else ""
        tensors[f"base_model.model.{owner}.{within}lora_B.weight"], tensors[f"base_model.model.{owner}.{within}lora_A.weight"] = B, A
        ranks[parameter] = B.shape[1] // experts[owner]
    save_tensors(tensors, out_dir / "adapter_model.safetensors", {"format": "pt"})
    settings = _adapter_config(base, ranks, list(fused), bool(rounds[0].transposed))
    write_atomically(out_dir / "adapter_config.json", json.dumps(settings, indent=2))
    return AdapterExport(ranks, (lost / total) ** 0.5 if total > 0.0 else 0.0)


def _readable_update(checkpoint: Path) -> RoundUpdate:
    manifest = read_manifest(checkpoint, CheckpointManifest)
    if "update" not in manifest.files:
        raise CheckpointError(str(checkpoint), f"was made by method {manifest.method} and has no osft update", "export it dense")
    found = read_update(checkpoint / manifest.files["update"].path)
    if found.others:
        what = f"also trained {', '.join(list(found.others)[:3])} (train_other), which a LoRA adapter cannot hold"
        raise CheckpointError(str(checkpoint), what, "serve its dense model/, or train without train_other")
    return found


def _of_all_experts(factors: Mapping[int, tuple[Tensor, Tensor]], experts: int) -> tuple[Tensor, Tensor]:
    """PEFT's form of the factors of a fused parameter: B (m x r E, expert by expert within a rank), A (E r x n, rank by rank within an
    expert). Experts of a smaller rank, and those without an update, are filled up with zeros."""
    first = next(iter(factors.values()))
    rank = max(B.shape[1] for B, _ in factors.values())
    left, right = torch.zeros(first[0].shape[0], rank, experts), torch.zeros(experts, rank, first[1].shape[1])
    for number, (B, A) in factors.items():
        left[:, : B.shape[1], number], right[number, : A.shape[0]] = B, A
    return left.reshape(left.shape[0], -1), right.reshape(-1, right.shape[2])


def _adapter_config(base: str, ranks: Mapping[str, int], fused: Sequence[str], fan_in_fan_out: bool) -> dict[str, object]:
    """Every layer has its own rank, and alpha equal to it: the factors already carry the scale."""
    largest = max(ranks.values())
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": largest,
        "lora_alpha": largest,
        "rank_pattern": dict(ranks),
        "alpha_pattern": dict(ranks),
        "target_modules": sorted(ranks.keys() - set(fused)),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": fan_in_fan_out,
        "inference_mode": True,
    } | ({"target_parameters": sorted(fused)} if fused else {})
