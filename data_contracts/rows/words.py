"""Text as arrays of word hashes, many rows at once: what duplicates, contamination and carving compare.

Legend: W words in a batch of R rows, made of P pieces (a piece is one turn, or a document). A word is a run of letters or digits
of the text in its plain form (case, compatibility forms, unseen and look-alike characters set aside); scripts that do not write spaces
count each character. Hashes are stable across machines.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from data_contracts.rows.plain_text import content_of, is_plain_prose, plain_text

Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]

_SPACELESS = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(rf"[{_SPACELESS}]|[^\W_{_SPACELESS}]+")
#: Lower case for ASCII letters, a space for everything that is not a letter or digit.
_ASCII = bytes(ord(chr(code).lower()) if chr(code).isalnum() and code < 128 else 32 for code in range(256))
#: Markup repeats word for word between texts that have nothing in common.
_MARKUP = re.compile(r"(?:<|&lt;)/?[A-Za-z][^<>&]{0,200}(?:>|&gt;)")
_BASE = np.uint64(0x9E3779B97F4A7C15)
_REMEMBERED = 200_000


class _WordHashes(dict[bytes, int]):
    """word -> 64-bit hash, remembering a bounded number of words."""

    def __missing__(self, word: bytes) -> int:
        value = int.from_bytes(hashlib.blake2b(word, digest_size=8).digest(), "little")
        if len(self) >= _REMEMBERED:
            self.clear()
        self[word] = value
        return value


_hashes = _WordHashes()


def words_of(text: str) -> list[bytes]:
    """The words of a text, in order, as UTF-8; HTML tags are left out."""
    if "<" in text or "&lt;" in text:
        text = _MARKUP.sub(" ", text)
    if text.isascii():
        return text.encode().translate(_ASCII).split()
    return [word.encode("utf-8", "surrogatepass") for word in _WORD.findall(plain_text(text))]


def word_hash(word: str) -> int:
    """The hash that `WordBatch.hashes` holds for a lower-case word."""
    return _hashes[word.encode()]


@dataclass(frozen=True)
class WordBatch:
    """hashes: uint64[W]; pieces: int64[P + 1] offsets of pieces into hashes; rows: int64[R + 1] offsets of rows into hashes;
    contents: uint64[P], of each piece's words and signs: two pieces are the same where these are equal; owners: int64[P], the row of
    each piece."""

    hashes: Hashes
    pieces: Places
    rows: Places
    contents: Hashes
    owners: Places

    def __len__(self) -> int:
        return len(self.rows) - 1

    @cached_property
    def row_of_word(self) -> Places:
        """int64[W]"""
        return np.repeat(np.arange(len(self)), np.diff(self.rows))

    def grams(self, n: int) -> tuple[Hashes, Places]:
        """(hash of each run of n words that lies within one row, row of each run). Both have one entry per run, in text order."""
        begins = self.starts(n)
        return self._run_hashes(n)[begins], self.row_of_word[begins]

    def starts(self, n: int) -> Places:
        """Where each run of `grams(n)` begins in `hashes`: the words whose row goes on for n words."""
        return np.flatnonzero(np.arange(len(self.hashes)) + n <= self.rows[self.row_of_word + 1])

    def _run_hashes(self, n: int) -> Hashes:
        """uint64[W - n + 1]: of the runs of n words wherever they begin, sum h[i + j] * BASE^(n - 1 - j), by doubling."""
        if len(self.hashes) < n:
            return np.empty(0, np.uint64)
        if n == 1:
            return self.hashes
        half = self._run_hashes(n // 2)
        count = len(self.hashes) - 2 * (n // 2) + 1
        runs = half[:count] * np.uint64(pow(int(_BASE), n // 2, 1 << 64)) + half[n // 2 : n // 2 + count]
        return runs if n % 2 == 0 else runs[:-1] * _BASE + self.hashes[n - 1 :]


def word_batch(rows: Sequence[Sequence[str]]) -> WordBatch:
    """rows: for each row its pieces of text."""
    values: list[int] = []
    contents: list[int] = []
    owners: list[int] = []
    pieces, ends = [0], [0]
    for place, row in enumerate(rows):
        for piece in row:
            words = words_of(piece)
            values += [_hashes[word] for word in words]
            contents.append(content_key(piece, words))
            owners.append(place)
            pieces.append(len(values))
        ends.append(len(values))
    return WordBatch(
        np.array(values, np.uint64),
        np.array(pieces, np.int64),
        np.array(ends, np.int64),
        np.array(contents, np.uint64),
        np.array(owners, np.int64),
    )


def content_key(text: str, words: Sequence[bytes]) -> int:
    """One hash of a text's words and signs; 0 where it has none. `words`: its words, which are all of it in most texts."""
    said = b" ".join(words) if is_plain_prose(text) else " ".join(content_of(text)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), "little") if said else 0


def contains(sorted_values: Hashes, wanted: Hashes) -> NDArray[np.bool_]:
    """Which of `wanted` occur in `sorted_values`."""
    if len(sorted_values) == 0:
        return np.zeros(len(wanted), np.bool_)
    found = np.searchsorted(sorted_values, wanted)
    hits: NDArray[np.bool_] = sorted_values[np.minimum(found, len(sorted_values) - 1)] == wanted
    return hits


class HashSet:
    """Sorted hashes with a table of their first bits: of many values that are not in it, one look a value."""

    def __init__(self, sorted_values: Hashes) -> None:
        self.values = sorted_values
        self._shift = np.uint64(64 - max(10, int(16 * len(sorted_values)).bit_length()))
        self._first_bits = np.zeros(1 << (64 - int(self._shift)), np.bool_)
        self._first_bits[(sorted_values >> self._shift).astype(np.int64)] = True

    def __len__(self) -> int:
        return len(self.values)

    def contains(self, wanted: Hashes) -> NDArray[np.bool_]:
        """Which of `wanted` are in the set."""
        found = self._first_bits[(wanted >> self._shift).astype(np.int64)]
        found[found] = contains(self.values, wanted[found])
        return found


def covered(batch: WordBatch, n: int, sorted_values: Hashes) -> NDArray[np.bool_]:
    """bool[W]: the words that lie in a run of n words whose hash is one of `sorted_values`."""
    marks = np.zeros(len(batch.hashes) + 1, np.int64)
    grams, _ = batch.grams(n)
    begins = batch.starts(n)[contains(sorted_values, grams)]
    np.add.at(marks, begins, 1)
    np.add.at(marks, begins + n, -1)
    return np.cumsum(marks[:-1]) > 0


def frequent(batch: WordBatch, n: int, *, more_than: float) -> Hashes:
    """Sorted hashes of the runs of n words that occur in more than `more_than` rows: the text of a template."""
    grams, row = batch.grams(n)
    if len(grams) == 0:
        return grams
    order = np.argsort(grams, kind="stable")  # rows ascend in text order, and so within each run's hash
    grams, row = grams[order], row[order]
    other = np.append(True, grams[1:] != grams[:-1])
    in_rows = np.add.reduceat(other | np.append(True, row[1:] != row[:-1]), np.flatnonzero(other), dtype=np.int64)
    found: Hashes = grams[other][in_rows > more_than]
    return found
