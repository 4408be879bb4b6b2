"""Rebuild dense weights from a parent's weights and a stored update, byte for byte if the arithmetic is the same.

A safetensors file is a header (names, dtypes, shapes, places) and the tensors' bytes. The header of a deleted file is kept, so that what is
rebuilt has the same layout; the sum W + left right^T is computed in float32, as in the engine.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from data_contracts.errors import CheckpointError
from data_contracts.model.header import TensorHeader, parse_header, read_header
from data_contracts.model.round_update import read_update_facts

if TYPE_CHECKING:
    from torch import Tensor

_BLOCK = 1 << 24  # numbers that are compared at once: an embedding of 128,256 x 4,096 takes 4 GB in float64
_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "U8": "uint8",
    "BOOL": "bool",
}


def tensors_of(header: str) -> list[tuple[str, TensorHeader]]:
    """(name, entry) in the order of the bytes."""
    return sorted(parse_header(header).tensors.items(), key=lambda item: item[1].begin)


class WeightFolder:
    """The tensors of every *.safetensors file of a model folder, by name."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        from safetensors import safe_open

        self._folder = folder
        self._files = {
            name: handle
            for path in sorted(folder.glob("*.safetensors"))
            for handle in [stack.enter_context(safe_open(path, framework="pt"))]
            for name in handle.keys()  # noqa: SIM118  (a handle is no dict)
        }

    def get(self, name: str) -> Tensor:
        if name not in self._files:
            raise CheckpointError(str(self._folder), f"has no tensor {name}", "this version cannot be rebuilt from its parent")
        tensor: Tensor = self._files[name].get_tensor(name)
        return tensor


class StoredUpdate:
    """The engine's update.safetensors: `<layer>.left` and the `.right` of the metadata, or `<layer>.dense`; `value:<parameter>` for trained
    parameters outside the updated layers."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        from safetensors import safe_open

        self._file = stack.enter_context(safe_open(path, framework="pt"))
        facts = read_update_facts(self._file.metadata() or {})
        if facts.experts:
            what = "changes experts, which a model's files name and cut otherwise than the model in memory"
            raise CheckpointError(str(path), what, "the weights of this version stay on disk")
        self._rights = facts.rights
        self._transposed = frozenset(facts.transposed)
        self._names = set(self._file.keys())

    def added_to(self, name: str, weight: Tensor) -> Tensor | None:
        """W + dW in float32 for the weight of an updated layer, the trained value of another parameter, None for an unchanged one."""
        import torch

        if f"value:{name}" in self._names:
            value: Tensor = self._file.get_tensor(f"value:{name}")
            return value
        layer = name.removesuffix(".weight")
        change = self._change(layer)
        if change is None:
            return None
        if layer in self._transposed:
            return (weight.T.to(torch.float32) + change).T
        return weight.to(torch.float32) + change

    def _change(self, layer: str) -> Tensor | None:
        """dW (out x in), float32, of an updated layer."""
        import torch

        if f"{layer}.dense" in self._names:
            dense: Tensor = self._file.get_tensor(f"{layer}.dense")
            return dense.to(torch.float32)
        if f"{layer}.left" not in self._names:
            return None
        left: Tensor = self._file.get_tensor(f"{layer}.left")
        right: Tensor = self._file.get_tensor(self._rights.get(layer, f"{layer}.right"))
        return left.to(torch.float32) @ right.to(torch.float32).T


def rebuilt_tensors(header: str, parent: WeightFolder, update: StoredUpdate) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) in file order, with the dtype and shape of the header."""
    import torch

    for name, entry in tensors_of(header):
        weight = parent.get(name)
        summed = update.added_to(name, weight)
        dtype = getattr(torch, _DTYPES[entry.dtype])
        if tuple(weight.shape) != entry.shape:
            raise CheckpointError(name, f"is {list(weight.shape)} in the parent and {list(entry.shape)} here", "it cannot be rebuilt")
        yield name, (weight if summed is None else summed).to(dtype)


def write_weights(header: str, parent: Path, update: Path, target: Path) -> None:
    """Write one safetensors file with this header, one tensor in memory at a time."""
    import torch

    encoded = header.encode("utf-8")
    with ExitStack() as stack, target.open("wb") as stream:
        stream.write(struct.pack("<Q", len(encoded)) + encoded)
        for _, tensor in rebuilt_tensors(header, WeightFolder(parent, stack), StoredUpdate(update, stack)):
            stream.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())


def largest_difference(one: Path, other: Path) -> float:
    """Over the tensors of two weight files: the largest absolute difference in units of the tensor's rounding step.

    The step is the dtype's epsilon times the tensor's largest magnitude. Below about 1 the two are equal to rounding.
    """
    import torch

    worst = 0.0
    with ExitStack() as stack:
        left, right = (WeightFolder(path.parent, stack) for path in (one, other))
        for name, _ in tensors_of(read_header(one).text):
            a, b = left.get(name), right.get(name)
            if not a.is_floating_point():
                worst = worst if torch.equal(a, b) else float("inf")
                continue
            step = torch.finfo(a.dtype).eps * max(float(a.abs().max()), torch.finfo(a.dtype).tiny)
            blocks = zip(*(torch.split(each.flatten(), _BLOCK) for each in (a, b)), strict=True)
            worst = max(worst, max(float((x.double() - y.double()).abs().max()) for x, y in blocks) / step)
    return worst
