"""MinHash signatures: what a round keeps of its rows so that a later drop can be compared with them without re-reading their text.

One record a row of clean, held-out and sealed, in file order:

    key      uint64      exact content key
    side     uint8       0 clean, 1 held out, 2 sealed
    row      uint32      line in that file, from 0
    minhash  uint16[63]  the low 16 bits of each of rensa's 63 permutations (b-bit minwise hashing, Li and Koenig 2010)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_contracts.words import Hashes, Places

PERMUTATIONS, SEED = 63, 42
BANDS, ROWS_A_BAND = 21, 3
_BLOCK = 16_384
_HEADER = 1024
#: Runs of this many words are what is compared.
SHINGLE = 2
RECORD = np.dtype([("key", "<u8"), ("side", "u1"), ("row", "<u4"), ("minhash", "<u2", (PERMUTATIONS,))])


@dataclass(frozen=True)
class Signatures:
    """The columns of a signatures file, n rows."""

    key: NDArray[np.uint64]
    side: NDArray[np.uint8]
    row: NDArray[np.uint32]
    minhash: NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.key)


class MinhashFile:
    """Signatures of the rows of a drop on disk, uint16[n, 63], looked at a block at a time so that memory does not grow with them."""

    def __init__(self, path: Path, rows: int) -> None:
        self._path, self._rows = path, rows

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, rows: NDArray[np.int64] | slice) -> NDArray[np.uint16]:
        if self._rows == 0:
            return np.empty((0, PERMUTATIONS), np.uint16)
        # mapped anew each time: pages that were touched are given back when the mapping goes
        return np.array(np.memmap(self._path, dtype="<u2", mode="r", shape=(self._rows, PERMUTATIONS))[rows])


def band_column(minhash: MinhashFile | NDArray[np.uint16], band: int) -> NDArray[np.uint64]:
    """uint64[n]: `band_keys` of every row, block by block."""
    parts = [band_keys(minhash[begin : begin + _BLOCK], band) for begin in range(0, len(minhash), _BLOCK)]
    return np.concatenate([np.empty(0, np.uint64), *parts])


def minhashes(shingles: Hashes, offsets: Places) -> NDArray[np.uint16]:
    """uint16[R, 63]. shingles: the shingle hashes of R rows, end to end; offsets: int64[R + 1] into them. Rows without any get all ones."""
    from rensa import RMinHash

    matrix = RMinHash.digest_matrix_from_flat_token_hashes(shingles, offsets.astype(np.uint64), PERMUTATIONS, SEED)
    return (np.array(matrix.to_rows(), np.uint32).reshape(-1, PERMUTATIONS) & 0xFFFF).astype(np.uint16)


def band_keys(minhash: NDArray[np.uint16], band: int) -> NDArray[np.uint64]:
    """uint64[n]: three 16-bit hashes side by side."""
    part = minhash[:, band * ROWS_A_BAND : (band + 1) * ROWS_A_BAND].astype(np.uint64)
    return part[:, 0] << np.uint64(32) | part[:, 1] << np.uint64(16) | part[:, 2]


def read_signatures(path: Path) -> Signatures:
    """Raises ValueError where the file is not a signatures file."""
    table = np.load(path, mmap_mode="r", allow_pickle=False) if path.stat().st_size > _HEADER else np.load(path, allow_pickle=False)
    if table.dtype != RECORD:
        raise ValueError(f"{path.name} is not a signatures file of this release")
    return Signatures(table["key"], table["side"], table["row"], table["minhash"])


def write_signatures(path: Path, key: NDArray[np.uint64], minhash: MinhashFile, splits: Sequence[NDArray[np.int64]]) -> None:
    """splits: for each side, the ordinals of its rows in file order; key and minhash: of every ordinal."""
    with path.open("wb") as stream:
        shape = (sum(map(len, splits)),)
        np.lib.format.write_array_header_1_0(stream, {"descr": RECORD.descr, "fortran_order": False, "shape": shape})
        for side, ordinals in enumerate(splits):
            for begin in range(0, len(ordinals), _BLOCK):
                block = ordinals[begin : begin + _BLOCK]
                table = np.empty(len(block), RECORD)
                table["key"], table["side"], table["minhash"] = key[block], side, minhash[block]
                table["row"] = np.arange(begin, begin + len(block))
                stream.write(table.tobytes())
