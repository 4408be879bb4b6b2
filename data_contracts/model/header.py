"""The header of a safetensors file: names, types, shapes and places of its tensors, read without the weights and without torch.

A file is 8 bytes with the length of the header, the header (JSON), and the bytes of the tensors one after another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from data_contracts.errors import CheckpointError

_LIMIT = 100_000_000  # bytes, as safetensors itself has it
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError)


@dataclass(frozen=True)
class TensorHeader:
    """One tensor. begin and end: its bytes, counted from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class FileHeader:
    """text: the header as it stands in the file, padding included; tensors are in its order."""

    text: str
    tensors: Mapping[str, TensorHeader]
    metadata: Mapping[str, str]

    @property
    def data_begin(self) -> int:
        """Where the tensors' bytes begin in the file."""
        return 8 + len(self.text.encode("utf-8"))


def parse_header(text: str) -> FileHeader:
    """A header that was kept as text. Raises ValueError and its like where it is none."""
    content = json.loads(text)
    metadata = content.pop("__metadata__", None) or {}
    return FileHeader(text, {name: _tensor(entry) for name, entry in content.items()}, metadata)


def _tensor(entry: Mapping[str, object]) -> TensorHeader:
    begin, end = map(int, entry["data_offsets"])  # type: ignore[call-overload]
    return TensorHeader(str(entry["dtype"]), tuple(map(int, entry["shape"])), begin, end)  # type: ignore[call-overload]


def read_header(path: Path, way_out: str = "download or write it again") -> FileHeader:
    """The header of a file. Raises CheckpointError where the file is no safetensors file, or was cut off."""
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 0 < length <= min(size - 8, _LIMIT):
                raise ValueError("the header is not complete")
            header = parse_header(stream.read(length).decode("utf-8"))
    except _UNREADABLE as error:
        raise CheckpointError(str(path), "is not a complete safetensors file", way_out) from error
    end = max((tensor.end for tensor in header.tensors.values()), default=0)
    if end != size - 8 - length:
        what = f"has {size - 8 - length} bytes of weights where its header says {end}: it was cut off or written over"
        raise CheckpointError(str(path), what, way_out)
    return header
