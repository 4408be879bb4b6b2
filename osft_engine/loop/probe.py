"""What a loaded model does with a batch, found by one trial: may examples share a row or a pass, and which layers are called.

Examples are kept apart where one example's loss has no gradient at another example's tokens, and the example has the logits that it has
alone. State-space models carry their state over the border, ALiBi counts distances from the row's beginning, and some models build no mask
from the position ids: all of these would train on mixed text without an error.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from data_contracts.errors import ConfigError
from data_contracts.model.lengths import length_steps
from osft_engine.compute.forward import run_model
from osft_engine.config import TrainConfig
from osft_engine.data.batches import Layout, MicroBatch, micro_batches
from osft_engine.data.examples import Example
from osft_engine.method.attach import find_targets

_LEAK = 1e-6  # largest gradient at another example's tokens, relative to that at its own; block-diagonal attention gives exactly 0
_AHEAD = 1e-3  # the same for later tokens of the example itself, where a decoder has rounding at most
_LENGTHS = (11, 6)  # tokens of the two examples
_NEXT: dict[Layout, Layout] = {"packed": "padded", "padded": "single"}


@dataclass(frozen=True)
class ChosenLayout:
    kind: Layout
    why: str


def wanted_layout(config: TrainConfig, device: torch.device) -> Layout:
    """The layout that would be cheapest: what the config names, else packed on a GPU and padded on a CPU."""
    if config.batch_layout != "auto":
        return config.batch_layout
    return "padded" if device.type == "cpu" else "packed"


def choose_layout(model: Any, config: TrainConfig, device: torch.device | None = None) -> ChosenLayout:
    """The wanted layout where this model keeps examples apart in it, else the next one that does. `device`: where the model is going to
    be trained, if that is not where it is now.

    Raises ConfigError where the config itself names a layout that mixes examples.
    """
    _require_left_to_right(model)
    layout = wanted = wanted_layout(config, device or model.device)
    reasons: list[str] = []
    while layout != "single" and (leak := turns_by_length(model, config) or mixes_examples(model, layout)) is not None:
        if config.batch_layout == layout:
            what = f"is {layout}, and {type(model).__name__} {leak}"
            raise ConfigError("train.batch_layout", what, "leave it at auto, which takes a layout that keeps examples apart")
        reasons.append(f"{layout}: {leak}")
        layout = _NEXT[layout]
    found = "one example per forward pass" if layout == "single" else "no example reads another (probed)"
    place = "on a CPU padding is cheaper; " if wanted == "padded" and config.batch_layout == "auto" else ""
    return ChosenLayout(layout, "; ".join([*reasons, place + found]))


def turns_by_length(model: Any, config: TrainConfig) -> str | None:
    """Whether the frequencies of a model's positions follow the longest example of a pass, and examples may be long enough for that."""
    limit = length_steps(model.config.get_text_config()).first
    longest = min(config.max_tokens_per_batch, config.max_seq_len or config.max_tokens_per_batch)
    if limit is None or longest <= limit:
        return None
    return f"counts the positions of all examples of a pass otherwise as soon as one has more than {limit} tokens"


def _require_left_to_right(model: Any) -> None:
    """Raise ConfigError for a model whose prediction of a token reads that token or later ones: an encoder would learn to copy."""
    (batch,) = micro_batches(_examples(model)[:1], max_tokens=64, layout="single")
    was_training = model.training
    model.eval()
    try:
        with _token_vectors(model) as vectors, torch.enable_grad():
            first = run_model(model, batch.to(model.device)).float()[0].logsumexp(-1)
        (gradient,) = torch.autograd.grad(first, vectors[:1])
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, AssertionError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        return  # what cannot be read at all is said by the training itself
    finally:
        model.train(was_training)
    size = gradient.abs().float().amax(-1).flatten()
    if float(size[1:].max()) > _AHEAD * float(size[0]):
        what = "reads the tokens that it is to predict, as encoders do: its loss would fall and nothing would be learned"
        raise ConfigError(
            type(model).__name__, what, "give a model that reads from left to right (a decoder; for BERT's, is_decoder: true)"
        )


def mixes_examples(model: Any, layout: Layout) -> str | None:
    """How examples that share a forward pass in this layout disturb one another; None where they do not."""
    examples = _examples(model)
    (batch,) = micro_batches(examples, max_tokens=len(examples) * _LENGTHS[0], layout=layout)
    was_training = model.training
    model.eval()
    try:
        if _largest_leak(model, batch.to(model.device)) > _LEAK:
            return "lets one example's tokens reach the other's loss"
        together = _logits(model, batch)
        alone = torch.cat([_logits(model, each) for one in examples for each in micro_batches([one], max_tokens=64, layout="single")])
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, AssertionError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        return f"cannot read it ({(str(error).splitlines() or [type(error).__name__])[0][:120]})"
    finally:
        model.train(was_training)
    distance = float((together - alone).norm() / alone.norm().clamp_min(1e-30))
    allowed = 1e-3 if model.dtype == torch.float32 else 5e-2
    return None if distance <= allowed else f"gives an example other logits than alone (by {distance:.2g} of their norm)"


def _examples(model: Any) -> list[Example]:
    """Two examples that share no token, longest first, as a batch orders them."""
    size = model.get_input_embeddings().weight.shape[0]
    ids = [(5 + 7 * index) % max(size - 1, 1) for index in range(sum(_LENGTHS))]
    rows = (ids[: _LENGTHS[0]], ids[_LENGTHS[0] :])
    return [Example(tuple(row), (False, *[True] * (len(row) - 1)), f"probe:{number}") for number, row in enumerate(rows)]


@torch.no_grad()
def _logits(model: Any, batch: MicroBatch) -> Tensor:
    return run_model(model, batch.to(model.device)).float()


def _largest_leak(model: Any, batch: MicroBatch) -> float:
    """Of both examples' losses: the largest gradient at a token vector that is not the example's, as a share of the largest at its own."""
    with _token_vectors(model) as vectors, torch.enable_grad():
        losses = torch.nn.functional.cross_entropy(run_model(model, batch).float(), batch.targets, reduction="none")
    counts = [length - 1 for length in _LENGTHS]
    worst = 0.0
    for number, part in enumerate(torch.split(losses, counts)):
        (gradient,) = torch.autograd.grad(part.sum(), vectors[:1], retain_graph=True)
        size = gradient.abs().float().amax(-1)  # (1, T) packed, (2, T) padded
        own = torch.zeros_like(size, dtype=torch.bool)
        row, start = (number, 0) if size.shape[0] > 1 else (0, sum(_LENGTHS[:number]))
        own[row, start : start + _LENGTHS[number]] = True
        largest = float(size[own].max())
        worst = max(worst, float(size[~own].max()) / largest if largest > 0.0 else float("inf"))
    return worst if worst == worst else float("inf")


@contextmanager
def _token_vectors(model: Any) -> Iterator[list[Tensor]]:
    """Within a forward pass: the output of the input embedding, as a leaf whose gradient can be computed (a list of one)."""
    found: list[Tensor] = []

    def detach(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        leaf = output.detach().requires_grad_()
        found.append(leaf)
        return leaf.clone()  # some models scale it in place

    handle = model.get_input_embeddings().register_forward_hook(detach)
    try:
        yield found
    finally:
        handle.remove()


# ------------------------------------------------------------------------------------------------ layers


def reachable_targets(model: Any, patterns: Sequence[str] = ()) -> dict[str, nn.Module]:
    """`find_targets` without the layers whose weight the model reads without calling the layer (Mamba's dt_proj, fused kernels).

    An update would have no effect there. Raises ConfigError where a pattern names such a layer, or nothing else is left.
    """
    targets = find_targets(model, patterns)
    passed_over = read_without_call(model, targets)
    if not passed_over:
        return targets
    what = f"{type(model).__name__} reads the weight of {passed_over[0]} without calling the layer, so an update of it would have no effect"
    if patterns or len(passed_over) == len(targets):
        raise ConfigError("target_patterns", what, f"leave out {', '.join(sorted({name.rpartition('.')[2] for name in passed_over}))}")
    print(f"warning: {what}: {len(passed_over)} such layers stay as they are", file=sys.stderr)
    return {name: module for name, module in targets.items() if name not in passed_over}


def read_without_call(model: Any, targets: Mapping[str, nn.Module]) -> list[str]:
    """Names of layers that a training pass does not call although their weight is in its graph. Layers that it does not use are not among
    them: an expert may just not have been chosen."""
    called: set[str] = set()

    def note(name: str) -> Callable[..., None]:
        return lambda *_: called.add(name)

    handles = [module.register_forward_pre_hook(note(name)) for name, module in targets.items()]
    was_training = model.training
    model.train()  # fused kernels are taken in training only
    (batch,) = micro_batches(_examples(model)[:1], max_tokens=64, layout="single")
    batch = batch.to(model.device)
    try:
        with torch.no_grad():
            run_model(model, batch)
        weights: dict[str, Tensor] = {name: module.weight for name, module in targets.items()}  # type: ignore[misc]
        silent = {name: weight for name, weight in weights.items() if name not in called and weight.is_floating_point()}
        if not silent:
            return []
        before = {name: weight.requires_grad for name, weight in silent.items()}
        try:
            with torch.enable_grad():
                for weight in silent.values():
                    weight.requires_grad_(True)
                loss = run_model(model, batch).float().logsumexp(-1).sum()
            gradients = torch.autograd.grad(loss, list(silent.values()), allow_unused=True)
        finally:
            for name, weight in silent.items():
                weight.requires_grad_(before[name])
        return [name for name, gradient in zip(silent, gradients, strict=True) if gradient is not None]
    finally:
        for handle in handles:
            handle.remove()
        model.train(was_training)
