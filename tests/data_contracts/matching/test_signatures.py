"""Signatures on disk: what was written is read back, a cut file is refused, and MinHash agreement estimates Jaccard similarity."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_contracts.matching.signatures import (
    BANDS,
    PERMUTATIONS,
    band_column,
    band_column_among,
    minhash_column,
    minhashes,
    read_signatures,
    write_signatures,
)

RNG = np.random.default_rng(0)


def _spooled(folder: Path, rows: int) -> np.ndarray:
    values = RNG.integers(0, 1 << 16, (rows, PERMUTATIONS), dtype=np.uint16)
    (folder / "minhash").write_bytes(values.tobytes())
    return values


def test_rows_are_written_by_side_and_read_back(tmp_path: Path) -> None:
    values, keys = _spooled(tmp_path, 50), RNG.integers(0, 1 << 63, 50, dtype=np.uint64)
    splits = [np.array([3, 7, 40]), np.array([1]), np.array([], np.int64)]
    write_signatures(tmp_path / "signatures.npy", keys, minhash_column(tmp_path / "minhash", 50), splits)
    read = read_signatures(tmp_path / "signatures.npy")
    order = [3, 7, 40, 1]
    assert len(read) == 4
    assert read.key[:].tolist() == keys[order].tolist()
    assert (read.side[:].tolist(), read.row[:].tolist()) == ([0, 0, 0, 1], [0, 1, 2, 0])
    assert (read.minhash[:] == values[order]).all()
    assert (np.load(tmp_path / "signatures.npy")["minhash"] == values[order]).all(), "an .npy file that numpy reads"


@pytest.mark.parametrize("damage", [lambda raw: raw[:-1], lambda raw: raw + b"x"])
def test_a_file_of_another_size_is_refused(damage, tmp_path: Path) -> None:
    _spooled(tmp_path, 3)
    path = tmp_path / "signatures.npy"
    write_signatures(path, np.zeros(3, np.uint64), minhash_column(tmp_path / "minhash", 3), [np.arange(3)])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match="is not a signatures file"):
        read_signatures(path)
    np.save(tmp_path / "other.npy", np.zeros(3))
    with pytest.raises(ValueError, match="is not a signatures file"):
        read_signatures(tmp_path / "other.npy")


def test_agreement_of_signatures_is_the_share_of_shingles_in_common() -> None:
    """Independent: the Jaccard similarity of the sets themselves; 63 hashes have a standard error of at most 0.063."""
    for shared in (0, 50, 150, 200):
        one = RNG.integers(0, 1 << 63, 200, dtype=np.uint64)
        other = np.concatenate([one[:shared], RNG.integers(0, 1 << 63, 200 - shared, dtype=np.uint64)])
        signs = minhashes(np.concatenate([one, other]), np.array([0, 200, 400]))
        assert float((signs[0] == signs[1]).mean()) == pytest.approx(shared / (400 - shared), abs=0.2)


def test_rows_with_equal_bands_are_found_among_many(tmp_path: Path) -> None:
    values = _spooled(tmp_path, 40_000)  # more than two blocks
    column = minhash_column(tmp_path / "minhash", 40_000)
    for band in (0, BANDS - 1):
        keys = band_column(column, band)
        assert len(keys) == 40_000
        part = values[30_000, 3 * band : 3 * band + 3].astype(int)
        assert int(keys[30_000]) == (part[0] << 32) + (part[1] << 16) + part[2]
        rows, found = band_column_among(column, band, np.sort(keys[[5, 30_000]]))
        assert {5, 30_000} <= set(rows.tolist())
        assert (found == keys[rows]).all()
