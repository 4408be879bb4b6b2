"""How the share of trainable directions is spread over the layers.

uniform     every layer the same `unfreeze_rank_ratio`
importance  the rule of the OSFT paper (arXiv:2504.07097) with a measure that fits matrices: the more a layer's output resembles its input,
            the more of it is protected
energy      protect: activations only: protect as many directions as hold `energy_share` of the input energy

Overrides name single layers by regular expression and win over the policy.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from data_contracts.errors import ConfigError
from osft_engine.compute.forward import read_batches, read_rows
from osft_engine.config import TrainConfig
from osft_engine.data.batches import MicroBatch
from osft_engine.memory.subspace_memory import SubspaceMemory
from osft_engine.subspace.algebra import directions_holding

_CKA_TOKENS = 512  # one T x T Gram matrix per layer: enough tokens for a stable similarity, small compared with the weights


def similarity(x: Tensor, y: Tensor) -> float:
    """How much a layer's output (T x m) resembles its input (T x n), in [0, 1]: linear CKA on centred tokens (Kornblith et al. 2019).

    The paper takes the mean cosine of input and output tokens. A matrix writes in another basis than it reads in, so that its cosine is
    about 0 whatever it does, and there is none where the widths differ. One measure for all layers is what makes them comparable.
    """
    x, y = x[:_CKA_TOKENS].to(torch.float32), y[:_CKA_TOKENS].to(torch.float32)
    K, L = (each - each.mean(0) for each in (x, y))
    K, L = K @ K.T, L @ L.T
    scale = float(K.norm() * L.norm())
    return float((K * L).sum()) / scale if scale > 0.0 else 0.0


def measure_importance(model: Any, targets: Mapping[str, nn.Module], batches: Sequence[MicroBatch]) -> dict[str, float]:
    """Similarity of every target's input and output, averaged over the batches with their tokens as weights.

    A layer that read no token (an expert that none reached) has the mean of the others.
    """
    totals = dict.fromkeys(targets, 0.0)
    counts = dict.fromkeys(targets, 0)
    names = {module: name for name, module in targets.items()}
    mask: Tensor | None = None

    def observe(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, y = (read_rows(value, inputs, mask) for value in (inputs[0], output))
        if len(x):
            totals[names[module]] += similarity(x, y) * len(x)
            counts[names[module]] += len(x)

    def begin(found: Tensor | None) -> None:
        nonlocal mask
        mask = found

    hooks = [module.register_forward_hook(observe) for module in targets.values()]
    read_batches(model, batches, hooks, begin)
    found = {name: total / counts[name] for name, total in totals.items() if counts[name]}
    mean = sum(found.values()) / max(len(found), 1)
    return {name: found.get(name, mean) for name in targets}


def importance_ratios(importance: Mapping[str, float], ratio: float, minimum_kept: float) -> dict[str, float]:
    """Trainable share of each layer: 1 - kept, kept = minimum + I (target - minimum), I normalised to mean 1, target = 1 - ratio.

    A layer with negative similarity (I < 0) keeps the minimum. Where the mean is not positive, the normalisation is undefined: the shares
    are then uniform, with a warning on stderr.
    """
    mean = sum(importance.values()) / len(importance)
    if not (math.isfinite(mean) and mean > 0.0):
        print(f"warning: mean layer importance is {mean:.3g}, not positive: ranks are uniform", file=sys.stderr)
        return dict.fromkeys(importance, ratio)
    target = 1.0 - ratio
    low = min(minimum_kept, target)
    kept = {name: low + value / mean * (target - low) for name, value in importance.items()}
    return {name: 1.0 - min(max(share, low), 1.0) for name, share in kept.items()}


def energy_ratios(targets: Mapping[str, nn.Module], memory: SubspaceMemory, share: float) -> dict[str, float]:
    """Trainable share of each layer when the protected directions hold `share` of its input energy."""
    found: dict[str, float] = {}
    by_leader: dict[str, float] = {}
    for name in targets:
        leader = memory.leaders.get(name, name)
        if leader not in by_leader:
            energies = memory.energies(name)
            by_leader[leader] = 1.0 - directions_holding(energies, share) / len(energies)
        found[name] = by_leader[leader]
    return found


def override_ratios(ratios: Mapping[str, float], overrides: Mapping[str, float]) -> dict[str, float]:
    """The last pattern that is found in a name decides. Raises ConfigError for a pattern that is found in none."""
    found = dict(ratios)
    for pattern, ratio in overrides.items():
        names = [name for name in ratios if re.search(pattern, name)]
        if not names:
            raise ConfigError("rank_overrides", f"{pattern!r} matches no target", f"targets look like {', '.join(list(ratios)[:3])}")
        found.update(dict.fromkeys(names, ratio))
    return found


def layer_ratios(
    targets: Mapping[str, nn.Module], config: TrainConfig, memory: SubspaceMemory | None, importance: Mapping[str, float] | None
) -> dict[str, float]:
    """The share of trainable directions of every target under the config's policy."""
    if config.rank_policy == "importance" and importance is not None:
        ratios = importance_ratios(importance, config.unfreeze_rank_ratio, config.importance_minimum)
    elif config.rank_policy == "energy" and memory is not None:
        ratios = energy_ratios(targets, memory, config.energy_share)
    else:
        ratios = dict.fromkeys(targets, config.unfreeze_rank_ratio)
    return override_ratios(ratios, config.rank_overrides)
