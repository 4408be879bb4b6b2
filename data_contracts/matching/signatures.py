"""MinHash signatures: what a round keeps of its rows so that a later drop can be compared with them without re-reading their text.

One record per row of clean, held-out and sealed, in file order:

    key      uint64      exact content key
    side     uint8       0 clean, 1 held out, 2 sealed
    row      uint32      line in that file, from 0
    minhash  uint16[63]  the low 16 bits of each of rensa's 63 permutations (b-bit minwise hashing, Li and Koenig 2010)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_contracts.rows.words import Hashes, Places, contains

PERMUTATIONS, SEED = 63, 42
BANDS, ROWS_A_BAND = 21, 3
_BLOCK = 16_384
#: Runs of this many words are what is compared.
SHINGLE = 2
RECORD = np.dtype([("key", "<u8"), ("side", "u1"), ("row", "<u4"), ("minhash", "<u2", (PERMUTATIONS,))])
_MINHASH_ALONE = np.dtype([("minhash", "<u2", (PERMUTATIONS,))])


@dataclass(frozen=True)
class Column:
    """One column of n records on disk, read where it is used, so that memory does not grow with n."""

    path: Path
    record: np.dtype[np.void]
    name: str
    rows: int
    begin: int = 0

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, rows: NDArray[np.int64] | slice) -> NDArray[Any]:
        if self.rows == 0:
            return np.empty(0, self.record)[self.name]
        # mapped again each time: pages that were read are freed with the mapping
        return np.array(np.memmap(self.path, self.record, mode="r", offset=self.begin, shape=(self.rows,))[self.name][rows])

    def blocks(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """(first row, values), one after another."""
        for begin in range(0, self.rows, _BLOCK):
            yield begin, self[begin : begin + _BLOCK]


@dataclass(frozen=True)
class Signatures:
    """A signatures file: for n rows their keys, sides, lines and MinHashes."""

    key: Column
    side: Column
    row: Column
    minhash: Column

    def __len__(self) -> int:
        return len(self.key)


def minhash_column(path: Path, rows: int) -> Column:
    """Signatures of the rows of a drop that is being read: uint16[rows, 63] and nothing else in the file."""
    return Column(path, _MINHASH_ALONE, "minhash", rows)


def band_column(minhash: Column, band: int) -> NDArray[np.uint64]:
    """uint64[n]: `band_keys` of every row."""
    return np.concatenate([np.empty(0, np.uint64), *(band_keys(block, band) for _, block in minhash.blocks())])


def band_column_among(minhash: Column, band: int, wanted: Hashes) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """(rows, keys) of those whose key is one of `wanted`, which are sorted."""
    rows, keys = [np.empty(0, np.int64)], [np.empty(0, np.uint64)]
    for begin, block in minhash.blocks():
        found = band_keys(block, band)
        hit = np.flatnonzero(contains(wanted, found))
        rows.append(begin + hit)
        keys.append(found[hit])
    return np.concatenate(rows), np.concatenate(keys)


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
    with path.open("rb") as stream:
        np.lib.format.read_magic(stream)
        shape, _, record = np.lib.format.read_array_header_1_0(stream)
        begin = stream.tell()
    if record != RECORD or len(shape) != 1 or path.stat().st_size != begin + shape[0] * RECORD.itemsize:
        raise ValueError(f"{path.name} is not a signatures file of this release")
    return Signatures(*(Column(path, RECORD, name, shape[0], begin) for name in ("key", "side", "row", "minhash")))


def write_signatures(path: Path, key: NDArray[np.uint64], minhash: Column, splits: Sequence[NDArray[np.int64]]) -> None:
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
