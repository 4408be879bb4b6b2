"""What held-out items are recognised by in a row, however they are spelled (see plain_text.py):

    runs        13 words in a row, at least 9 of which are the item's own and not part of a template
    questions   a turn or document that says what the item's question says, sign for sign; under 4 words only beside the item's answer
    contained   all of a short question inside a turn or document: of 8 words or more wherever it stands, of 4 to 7 words where
                the text holds at most 6 words that are not the item's
    turns       all of a conversation of several questions, the answer included, wherever it stands in a longer one

A question that several items of a suite share asks for nothing by itself and is not looked for inside other text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from data_contracts.matching.boilerplate import PHRASE, suite_phrases
from data_contracts.matching.heldout_items import HeldoutItem
from data_contracts.rows.plain_text import DECORATION, content_of, has_code
from data_contracts.rows.words import Hashes, HashSet, Places, WordBatch, covered, word_batch

#: A question of fewer words than this may occur again by chance ("Why is that?"), unless the answer does too.
_LEAST_QUESTION = 4
#: From here on a question is recognised by its words wherever it stands; below, the text around it must be short.
_LONG_QUESTION, _WORDS_AROUND = 8, 6
#: Lengths of short questions that are looked for; each costs a pass over the batch.
_MOST_LENGTHS = 64
_TURN = np.uint64(0xD6E8FEB86659FD93)

#: The texts of a row of the batch, by its place.
Texts = Callable[[int], Sequence[str]]


@dataclass
class _Found:
    """Hashes that items are recognised by, and the item of each."""

    hashes: list[Hashes] = field(default_factory=list)
    items: list[Places] = field(default_factory=list)

    def add(self, hashes: Hashes, items: Places) -> None:
        self.hashes.append(hashes)
        self.items.append(items)

    def table(self) -> _Table:
        if not self.hashes:
            return _Table(HashSet(np.empty(0, np.uint64)), np.empty(0, np.int64))
        values, first = np.unique(np.concatenate(self.hashes), return_index=True)
        return _Table(HashSet(values), np.concatenate(self.items)[first])


@dataclass(frozen=True)
class _Table:
    hashes: HashSet
    items: Places

    def item_of(self, value: np.uint64) -> int:
        return int(self.items[np.searchsorted(self.hashes.values, value)])


class HeldoutIndex:
    """The held-out items as tables of hashes. `contained`: also look for short questions inside other text."""

    def __init__(self, items: Sequence[HeldoutItem], template: Hashes, n: int, own_words: int, *, contained: bool) -> None:
        self.n, self._own_words, self._template = n, own_words, template
        by_suite: dict[str, list[HeldoutItem]] = {}
        for item in items:
            by_suite.setdefault(item.suite, []).append(item)
        self._items: list[HeldoutItem] = [item for group in by_suite.values() for item in group]
        runs, questions, answered = _Found(), _Found(), _Found()
        inside: dict[int, _Found] = {}
        first = 0
        for group in by_suite.values():
            batch = word_batch([(*item.questions, item.answer) for item in group])
            hashes, row = self._suite_runs(batch)
            runs.add(hashes, row + first)
            asked = _Questions(batch, group, first)
            questions.add(*asked.whole())
            answered.add(*asked.with_answer())
            if contained:
                asked.inside(np.unique(row), inside)
            first += len(group)
        self._runs, self._questions, self._answered = runs.table(), questions.table(), answered.table()
        self._told = _conversations(self._items)
        self._inside = {length: inside[length].table() for length in sorted(inside)[:_MOST_LENGTHS]}

    def __len__(self) -> int:
        return len(self._items)

    @property
    def suites(self) -> dict[str, int]:
        """Items by suite."""
        return dict(Counter(item.suite for item in self._items))

    def _suite_runs(self, batch: WordBatch) -> tuple[Hashes, Places]:
        runs, row = batch.grams(self.n)
        own = _own_words(batch, self.n, np.union1d(suite_phrases(batch), self._template)) >= self._own_words
        return runs[own], row[own]

    def hits(self, batch: WordBatch, texts: Texts) -> dict[int, HeldoutItem]:
        """row of the batch -> an item that it gives away."""
        found: dict[int, int] = {}
        whole = (*self._run_hits(batch), *self._question_hits(batch), *self._conversation_hits(batch))
        for row, item in (*whole, *self._inside_hits(batch, texts, found)):
            found.setdefault(row, item)
        return {row: self._items[item] for row, item in found.items()}

    def _run_hits(self, batch: WordBatch) -> Iterator[tuple[int, int]]:
        runs, row = batch.grams(self.n)
        hit = self._runs.hashes.contains(runs)
        if hit.any():
            hit &= _own_words(batch, self.n, self._template) >= self._own_words
            rows, first = np.unique(row[hit], return_index=True)
            yield from zip(rows.tolist(), map(self._runs.item_of, runs[hit][first]), strict=True)

    def _question_hits(self, batch: WordBatch) -> Iterator[tuple[int, int]]:
        for place in np.flatnonzero(self._questions.hashes.contains(batch.contents)).tolist():
            yield int(batch.owners[place]), self._questions.item_of(batch.contents[place])
        pairs = _pairs(batch.contents)
        hit = self._answered.hashes.contains(pairs) & (batch.owners[:-1] == batch.owners[1:])
        for place in np.flatnonzero(hit).tolist():
            yield int(batch.owners[place]), self._answered.item_of(pairs[place])

    def _conversation_hits(self, batch: WordBatch) -> Iterator[tuple[int, int]]:
        runs = np.empty(0, np.uint64)
        for length in range(1, max(self._told, default=0) + 1):
            runs = _longer(runs, batch.contents, length)
            table = self._told.get(length)
            if table is None or len(runs) == 0:
                continue
            hit = table.hashes.contains(runs) & (batch.owners[: len(runs)] == batch.owners[length - 1 :])
            for place in np.flatnonzero(hit).tolist():
                yield int(batch.owners[place]), table.item_of(runs[place])

    def _inside_hits(self, batch: WordBatch, texts: Texts, found: dict[int, int]) -> Iterator[tuple[int, int]]:
        for length, table in self._inside.items():
            runs, row = batch.grams(length)
            for place in np.flatnonzero(table.hashes.contains(runs)).tolist():
                item = table.item_of(runs[place])
                if int(row[place]) not in found and any(_says(text, self._items[item], length) for text in texts(int(row[place]))):
                    yield int(row[place]), item


def _longer(runs: Hashes, contents: Hashes, length: int) -> Hashes:
    """uint64[P - length + 1]: of the runs of `length` pieces, from those of one piece less."""
    return contents if length == 1 else runs[: max(0, len(contents) - length + 1)] * _TURN + contents[length - 1 :]


def _conversations(items: Sequence[HeldoutItem]) -> dict[int, _Table]:
    """Number of turns -> the conversations of so many."""
    found: dict[int, _Found] = {}
    by_length: dict[int, list[int]] = {}
    for number, item in enumerate(items):
        if item.turns:
            by_length.setdefault(len(item.turns), []).append(number)
    for count in sorted(by_length)[:_MOST_LENGTHS]:
        contents = word_batch([items[number].turns for number in by_length[count]]).contents.reshape(-1, count)
        runs = contents[:, 0]
        for column in contents[:, 1:].T:
            runs = runs * _TURN + column
        found.setdefault(count, _Found()).add(runs, np.array(by_length[count], np.int64))
    return {count: each.table() for count, each in found.items()}


class _Questions:
    """The questions of one suite's items with a single question; one turn of a longer conversation identifies too little."""

    def __init__(self, batch: WordBatch, items: Sequence[HeldoutItem], first: int) -> None:
        ends = np.cumsum([len(item.questions) + 1 for item in items])
        asked = np.flatnonzero([len(item.questions) == 1 for item in items])
        self._place, self._item = ends[asked] - 2, asked + first
        self._batch, self._first = batch, first
        self._words = np.diff(batch.pieces)[self._place]

    def whole(self) -> tuple[Hashes, Places]:
        long = self._words >= _LEAST_QUESTION
        return self._batch.contents[self._place[long]], self._item[long]

    def with_answer(self) -> tuple[Hashes, Places]:
        """Short questions, beside their answers."""
        contents = self._batch.contents
        short = (self._words < _LEAST_QUESTION) & (contents[self._place] != 0) & (contents[self._place + 1] != 0)
        return _pairs(contents)[self._place[short]], self._item[short]

    def inside(self, with_runs: Places, found: dict[int, _Found]) -> None:
        """Questions by their number of words, where no run of them would be found and no other item has the same question."""
        contents = self._batch.contents[self._place]
        alone = np.isin(contents, [key for key, count in Counter(contents.tolist()).items() if count == 1])
        wanted = alone & (self._words >= _LEAST_QUESTION) & ~np.isin(self._item - self._first, with_runs)
        for length in np.unique(self._words[wanted]).tolist():
            mine = wanted & (self._words == length)
            runs, starts = self._batch.grams(length)[0], self._batch.starts(length)
            begins = self._batch.pieces[self._place[mine]]
            found.setdefault(length, _Found()).add(runs[np.searchsorted(starts, begins)], self._item[mine])


def _pairs(contents: Hashes) -> Hashes:
    """uint64[P - 1]: one hash of each piece and the next."""
    mixed: Hashes = contents[:-1] * np.uint64(0x9E3779B97F4A7C15) + contents[1:]
    return mixed


def _says(text: str, item: HeldoutItem, words: int) -> bool:
    """Whether a text holds the item's question, its signs included, and little else where the question is short."""
    question = item.questions[0]
    marks = has_code(question)
    asked, said, answer = (content_of(part, marks=marks) for part in (question, text, item.answer))
    if words >= _LONG_QUESTION:
        if all(part.isalnum() for part in asked):
            said = [part for part in said if part.isalnum()]
        return _holds(said, asked)
    signs = Counter(part for part in asked if not part.isalnum())
    others = Counter(part for part in said if not part.isalnum() and part not in DECORATION)
    if not _holds([part for part in said if part.isalnum()], [part for part in asked if part.isalnum()]) or others - signs:
        return False
    around = sum(map(str.isalnum, said)) - words
    return around <= _WORDS_AROUND + (len(answer) if _holds(said, answer) else 0)


def _holds(said: Sequence[str], asked: Sequence[str]) -> bool:
    return f" {' '.join(asked)} " in f" {' '.join(said)} "


def _own_words(batch: WordBatch, n: int, template: Hashes) -> NDArray[np.int64]:
    """For each run of n words, how many are not covered by a phrase of the template."""
    free = np.concatenate([[0], np.cumsum(~covered(batch, PHRASE, template))])
    starts = batch.starts(n)
    own: NDArray[np.int64] = free[starts + n] - free[starts]
    return own
