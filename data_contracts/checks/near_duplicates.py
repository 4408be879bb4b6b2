"""Near duplicates, within the drop and against every earlier round: MinHash finds candidates, the text itself decides.

A row is compared by its runs of two words, without the words of the drop's template. Lines that two rows share word for word (a
passage under several questions) are set aside before they are compared, so that different questions about one passage stay. Rows of
one template that differ in the word that decides the answer stay too (decisive.py), and rows that differ in their tools or in which
answers are learned.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_contracts.checks.decisive import decided_otherwise
from data_contracts.matching.boilerplate import Boilerplate
from data_contracts.matching.earlier_drops import EarlierDrop
from data_contracts.matching.signatures import (
    BANDS,
    PERMUTATIONS,
    SHINGLE,
    Column,
    band_column,
    band_column_among,
    minhash_column,
    minhashes,
)
from data_contracts.privacy.masking import one_line
from data_contracts.rows.findings import Batch, Finding, WholeDrop
from data_contracts.rows.taught import answer_of, answer_text, framing
from data_contracts.rows.words import contains, word_batch, words_of

#: Rows with fewer runs of two words of their own are too short to be called alike; only exact duplicates are found there.
_LEAST_SHINGLES = 8
#: How far the estimate from the signature may lie below the wanted similarity (about two standard deviations at 63 hashes).
_SLACK = 0.15
#: Each row is paired with this many rows before it that fall into the same bucket, and with the bucket's first.
_NEIGHBOURS = 4
_LABEL_WORDS = 6
#: A row that so many alike rows differ from in the word that decides is one of a template, and is compared no further.
_ENOUGH_UNLIKE = 32
#: Pairs that a report shows, and how much of each row.
_SHOWN_PAIRS, _SHOWN_TEXT = 3, 160
#: Rows that are sorted together while buckets are looked for.
_SORTED_ROWS = 1 << 17
#: Rows whose text is at hand while pairs are compared: copies lie near one another in most drops.
_REMEMBERED = 64


class NearDuplicates:
    """Writes each row's signature to disk while rows are read; compares when all are known. The first of several stays."""

    def __init__(self, boilerplate: Boilerplate, earlier: Sequence[EarlierDrop], work: Path, similarity: float) -> None:
        self._boilerplate, self._earlier, self._similarity = boilerplate, earlier, similarity
        self._path = work / "minhash"
        self._file = self._path.open("wb")
        self._enough = bytearray()
        self._within = self._across = 0
        self._sizes: Counter[int] = Counter()
        self._pairs: list[dict[str, Any]] = []

    def observe(self, batch: Batch) -> Iterator[tuple[int, Finding]]:
        shingles, row = batch.words.grams(SHINGLE)
        own = ~contains(self._boilerplate.shingles, shingles)
        counts = np.bincount(row[own], minlength=len(batch.rows))
        signature = minhashes(shingles[own], np.concatenate([[0], np.cumsum(counts)]))
        self._file.write(signature.astype("<u2").tobytes())
        self._enough.extend((counts >= _LEAST_SHINGLES).astype(np.uint8).tobytes())
        return iter(())

    def minhash(self) -> Column:
        """The signature of every row that could be read, from disk."""
        self._file.close()
        return minhash_column(self._path, len(self._enough))

    def conclude(self, drop: WholeDrop) -> Iterator[tuple[int, Finding]]:
        usable = np.frombuffer(drop.alive, np.uint8).astype(bool) & np.frombuffer(self._enough, np.uint8).astype(bool)
        ordinals = np.flatnonzero(usable)
        past = _Past(self._earlier)
        likeness = _Likeness(drop, past, self._boilerplate)
        gone: dict[int, int] = {}
        pairs = _candidate_pairs(past.minhashes, self.minhash(), ordinals, self._similarity - _SLACK)
        past.load(pairs[:, 0])
        contrary = -1
        decided: Counter[int] = Counter()
        for first, second in pairs.tolist():
            if second in gone or (first >= len(past) and first in gone) or decided[second] >= _ENOUGH_UNLIKE:
                continue
            if not likeness.framed_alike(first, second) or not likeness.of(first, second) >= self._similarity:
                continue
            ordinal = second - len(past)
            labels = likeness.contradict(first, second)
            if likeness.decided_otherwise(first, second) and not labels:
                decided[second] += 1
            elif not labels:
                gone[second] = first
                if len(self._pairs) < _SHOWN_PAIRS and first >= len(past):
                    self._pairs.append(likeness.shown(first, second, drop))
                yield ordinal, self._finding(drop, past, first, drop.lines[ordinal])
            elif contrary != second and first >= len(past):
                contrary = second
                reason = f"asks nearly the same question as line {drop.lines[first - len(past)]} and gives another answer"
                yield ordinal, Finding("contrary_answer", drop.lines[ordinal], reason)
        self._sizes = Counter(Counter(gone.values()).values())

    def _finding(self, drop: WholeDrop, past: _Past, first: int, line: int) -> Finding:
        if first < len(past):
            self._across += 1
            return Finding("seen_before", line, f"says nearly the same as a row of the earlier skill {past.skill_of(first)!r}")
        self._within += 1
        return Finding("near_duplicate", line, f"says nearly the same as line {drop.lines[first - len(past)]}")

    def summary(self) -> Mapping[str, Any]:
        sizes = {str(size + 1): count for size, count in sorted(self._sizes.items())}
        short = self._enough.count(0)
        return {
            "near_duplicates": {
                "within": self._within,
                "earlier": self._across,
                "group_sizes": sizes,
                "too_short_to_compare": short,
                "pairs": self._pairs,
            }
        }


class _Past:
    """Rows of earlier rounds, numbered one after another before the rows of this drop."""

    def __init__(self, earlier: Sequence[EarlierDrop]) -> None:
        self._earlier = earlier
        self._ends = np.cumsum([len(drop.signatures) for drop in earlier], dtype=np.int64)
        self._texts: dict[int, str] = {}

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def minhashes(self) -> list[Column]:
        return [drop.signatures.minhash for drop in self._earlier]

    def _place(self, number: int) -> tuple[int, int]:
        which = int(np.searchsorted(self._ends, number, side="right"))
        return which, number - (int(self._ends[which - 1]) if which else 0)

    def skill_of(self, number: int) -> str:
        return self._earlier[self._place(number)[0]].skill

    def load(self, numbers: NDArray[np.int64]) -> None:
        """Read the text of the candidates, each file once."""
        for which, drop in enumerate(self._earlier):
            begin = int(self._ends[which - 1]) if which else 0
            mine = np.unique(numbers[(numbers >= begin) & (numbers < self._ends[which])])
            self._texts |= {begin + place: text for place, text in drop.texts((mine - begin).tolist())}

    def value(self, number: int) -> Mapping[str, Any]:
        value: Mapping[str, Any] = json.loads(self._texts[number])
        return value


class _Likeness:
    """Jaccard similarity of two rows' own runs of two words, shared lines set aside. Numbers: earlier rows first, then ordinals."""

    def __init__(self, drop: WholeDrop, past: _Past, boilerplate: Boilerplate) -> None:
        self._drop, self._past, self._template = drop, past, boilerplate.shingles
        self._lines, self._value = lru_cache(_REMEMBERED)(self._lines_of), lru_cache(_REMEMBERED)(self._read)

    def _read(self, number: int) -> Mapping[str, Any]:
        return self._past.value(number) if number < len(self._past) else self._drop.value(number - len(self._past))

    def contradict(self, first: int, second: int) -> bool:
        """Two short answers that differ, such as labels: such rows teach where the border is, or one of them is wrong."""
        answers = [
            [] if "text" in value else words_of(answer_text(value["messages"][answer_of(value["messages"])]))
            for value in map(self._value, (first, second))
        ]
        return answers[0] != answers[1] and max(map(len, answers)) <= _LABEL_WORDS

    def framed_alike(self, first: int, second: int) -> bool:
        """Whether the same turns are learned under the same tools."""
        return framing(self._value(first)) == framing(self._value(second))

    def shown(self, first: int, second: int, drop: WholeDrop) -> dict[str, Any]:
        """Two rows that are alike, for a person to judge whether they are."""
        texts = [one_line(row_text(self._value(number)))[:_SHOWN_TEXT] for number in (first, second)]
        return {"lines": [drop.lines[number - len(self._past)] for number in (first, second)], "texts": texts}

    def decided_otherwise(self, first: int, second: int) -> bool:
        """Rows of one template that differ in the word that decides the answer."""
        return decided_otherwise(self._value(first), self._value(second))

    def _lines_of(self, number: int) -> Mapping[str, frozenset[int]]:
        """line -> its runs of two words. The two ends of a line are not joined to its neighbours."""
        value = self._value(number)
        texts = [value["text"]] if "text" in value else map(answer_text, value["messages"])
        lines = list(dict.fromkeys(line.strip() for text in texts for line in text.split("\n") if line.strip()))
        batch = word_batch([[line] for line in lines])
        shingles, row = batch.grams(SHINGLE)
        own = ~contains(self._template, shingles)
        found: dict[str, set[int]] = {line: set() for line in lines}
        for shingle, place in zip(shingles[own].tolist(), row[own].tolist(), strict=True):
            found[lines[place]].add(shingle)
        return {line: frozenset(part) for line, part in found.items()}

    def of(self, first: int, second: int) -> float:
        one, other = self._lines(first), self._lines(second)
        only_one, only_other = one.keys() - other.keys(), other.keys() - one.keys()
        if not only_one and not only_other:
            return 1.0
        if not only_one or not only_other:
            only_one, only_other = set(one), set(other)
        left = frozenset().union(*(one[line] for line in only_one))
        right = frozenset().union(*(other[line] for line in only_other))
        return len(left & right) / len(left | right) if left and right else 0.0


def row_text(value: Mapping[str, Any]) -> str:
    """What a row asks and answers, on one line."""
    if "text" in value:
        return str(value["text"])
    return " -> ".join(answer_text(turn) for turn in value["messages"] if turn["role"] != "system")


def _candidate_pairs(past: Sequence[Column], current: Column, ordinals: NDArray[np.int64], least: float) -> NDArray[np.int64]:
    """int64[n, 2], ascending by second, then first: pairs that share a band and whose signatures agree in at least `least` of all hashes.

    Numbers count the rows of `past` first; the second of a pair is always a row of this drop. Of earlier rows only those in a bucket
    with a row of this drop are held, so that memory does not grow with their number.
    """
    offsets = np.cumsum([0, *map(len, past)])
    found = np.empty(0, np.uint64)
    for band in range(BANDS):
        own = band_column(current, band)[ordinals]
        among = [band_column_among(part, band, np.sort(own)) for part in past]
        numbers = np.concatenate([*(offset + rows for offset, (rows, _) in zip(offsets, among, strict=False)), offsets[-1] + ordinals])
        pairs = _bucket_pairs(np.concatenate([*(keys for _, keys in among), own]))
        pairs = pairs[pairs[:, 1] >= len(numbers) - len(ordinals)]
        packed = numbers[pairs[:, 1]].astype(np.uint64) << np.uint64(32) | numbers[pairs[:, 0]].astype(np.uint64)
        found = np.unique(np.concatenate([found, packed]))
    second, first = (found >> np.uint64(32)).astype(np.int64), (found & np.uint64(0xFFFFFFFF)).astype(np.int64)
    agree = np.concatenate([np.empty(0, bool), *_agreement(past, current, first, second, least)])
    return np.stack([first[agree], second[agree]], axis=1)


def _bucket_pairs(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """int64[n, 2]: each row with the rows just before it in its bucket, and with the bucket's first. A part of the buckets at a time: what
    sorting takes does not grow with the rows."""
    low = keys.astype("<u8", copy=False).view("<u2")[::4]
    step = max(1, (1 << 16) * _SORTED_ROWS // max(len(keys), _SORTED_ROWS))
    pairs = [np.empty((0, 2), np.int64)]
    for begin in range(0, 1 << 16, step):
        rows = np.flatnonzero((low >= begin) & (low < begin + step))
        pairs.append(rows[_pairs_within(keys[rows])])
    return np.concatenate(pairs)


def _pairs_within(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    order = np.argsort(keys, kind="stable")
    ranked = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]])) if len(ranked) else np.empty(0, np.int64)
    lengths = np.diff(np.append(starts, len(ranked)))
    heads = np.repeat(starts, lengths)
    place = np.arange(len(ranked))
    follows = place > heads
    parts = [np.stack([heads[follows], place[follows]], axis=1)]
    for lag in range(1, _NEIGHBOURS + 1):
        inside = place[place - lag >= heads]
        parts.append(np.stack([inside - lag, inside], axis=1))
    pairs: NDArray[np.int64] = order[np.concatenate(parts)]
    return pairs


def _agreement(
    past: Sequence[Column], current: Column, first: NDArray[np.int64], second: NDArray[np.int64], least: float
) -> Iterator[NDArray[np.bool_]]:
    """Which pairs' signatures agree well enough, a block at a time."""
    parts = [*past, current]
    ends = np.cumsum([len(part) for part in parts])
    for begin in range(0, len(first), 65_536):
        sides = []
        for numbers in (first[begin : begin + 65_536], second[begin : begin + 65_536]):
            block = np.empty((len(numbers), PERMUTATIONS), np.uint16)
            which = np.searchsorted(ends, numbers, side="right")
            for index, part in enumerate(parts):
                mine = which == index
                block[mine] = part[numbers[mine] - (ends[index - 1] if index else 0)]
            sides.append(block)
        yield (sides[0] == sides[1]).mean(axis=1) >= least
