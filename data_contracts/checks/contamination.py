"""Contamination: a training row that shares a run of 13 words with a held-out item, or repeats its whole question.

Runs that are mostly a template do not count: at least 9 of the 13 words must be the item's own. A suite that cannot be read
refuses the drop (fails closed), because nothing could be said about it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_contracts.boilerplate import PHRASE, Boilerplate, suite_phrases
from data_contracts.errors import DropError
from data_contracts.findings import Batch, Finding, WholeDrop
from data_contracts.jsonl import read_lines
from data_contracts.words import Hashes, HashSet, WordBatch, covered, word_batch

#: Fewer words than this in a question say nothing when they occur again ("Why is that?").
_LEAST_QUESTION = 4


@dataclass(frozen=True)
class HeldoutItem:
    """One item of a suite: its question as the pieces a model sees, and its gold answer."""

    suite: str
    line: int
    questions: tuple[str, ...]
    answer: str = ""


def read_suite(path: Path, *, max_line_bytes: int) -> list[HeldoutItem]:
    """The items of a suite's JSONL file. Raises DropError where it cannot be read, is empty, or an item has no text."""
    name = f"{path.parent.name}/{path.stem}"
    items = []
    for line in read_lines(path, max_line_bytes=max_line_bytes):
        where = f"{path}:{line.number}"
        if line.fault is not None or line.value is None:
            raise DropError(
                where, f"the suite cannot be checked for contamination: {line.fault[1] if line.fault else 'no object'}", "mend the suite"
            )
        questions, answer = item_texts(line.value)
        if not questions:
            raise DropError(
                where, "the suite cannot be checked for contamination: the item has no prompt, text or messages", "mend the suite"
            )
        items.append(HeldoutItem(name, line.number, questions, answer))
    if not items:
        raise DropError(str(path), "the suite cannot be checked for contamination: it has no items", "give the suite's JSONL file")
    return items


def item_texts(value: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
    """(question pieces, gold answer) of an item of any of the shapes that suites come in."""
    messages = value.get("messages")
    if isinstance(messages, list):
        turns = [turn for turn in messages if isinstance(turn, dict) and isinstance(turn.get("content"), str)]
        asked = tuple(turn["content"] for turn in turns if turn.get("role") == "user")
        return asked, turns[-1]["content"] if turns and turns[-1].get("role") == "assistant" else ""
    for name in ("prompt", "question", "text", "query"):
        if isinstance(value.get(name), str) and value[name].strip():
            choices, gold, answer = value.get("choices"), value.get("gold"), value.get("answer")
            if isinstance(choices, list) and type(gold) is int and 0 <= gold < len(choices):
                answer = choices[gold]
            return (value[name],), answer if isinstance(answer, str) else ""
    return (), ""


class HeldoutIndex:
    """Every run of `n` words and every whole question of the held-out items, as sorted hashes."""

    def __init__(self, items: Sequence[HeldoutItem], template: Hashes, n: int, own_words: int) -> None:
        self.n, self._own_words, self._template = n, own_words, template
        by_suite: dict[str, list[HeldoutItem]] = {}
        for item in items:
            by_suite.setdefault(item.suite, []).append(item)
        runs, questions = [], []
        self._items: list[HeldoutItem] = []
        for group in by_suite.values():
            batch = word_batch([(*item.questions, item.answer) for item in group])
            found = self._suite_runs(batch)
            runs.append((found[0], found[1] + len(self._items)))
            questions.append(_whole_questions(batch, group, len(self._items)))
            self._items += group
        run_hashes, self._run_item = _sorted_unique(runs)
        question_hashes, self._question_item = _sorted_unique(questions)
        self._runs, self._questions = HashSet(run_hashes), HashSet(question_hashes)

    def __len__(self) -> int:
        return len(self._items)

    @property
    def suites(self) -> dict[str, int]:
        """Items by suite."""
        names = [item.suite for item in self._items]
        return {name: names.count(name) for name in dict.fromkeys(names)}

    def _suite_runs(self, batch: WordBatch) -> tuple[Hashes, NDArray[np.int64]]:
        runs, row = batch.grams(self.n)
        own = _own_words(batch, self.n, np.union1d(suite_phrases(batch), self._template)) >= self._own_words
        return runs[own], row[own]

    def hits(self, batch: WordBatch) -> dict[int, HeldoutItem]:
        """row of the batch -> an item that it gives away."""
        found: dict[int, HeldoutItem] = {}
        runs, row = batch.grams(self.n)
        hit = self._runs.contains(runs)
        if hit.any():
            hit &= _own_words(batch, self.n, self._template) >= self._own_words
            hit_rows, first = np.unique(row[hit], return_index=True)
            items = self._run_item[np.searchsorted(self._runs.values, runs[hit][first])]
            found = {place: self._items[item] for place, item in zip(hit_rows.tolist(), items.tolist(), strict=True)}
        keys = batch.piece_keys()
        for piece in np.flatnonzero(self._questions.contains(keys)):
            owner = int(np.searchsorted(batch.rows, batch.pieces[piece], side="right")) - 1
            found.setdefault(owner, self._items[self._question_item[np.searchsorted(self._questions.values, keys[piece])]])
        return found


def _own_words(batch: WordBatch, n: int, template: Hashes) -> NDArray[np.int64]:
    """For each run of n words, how many are not covered by a phrase of the template."""
    free = np.concatenate([[0], np.cumsum(~covered(batch, PHRASE, template))])
    starts = batch.starts(n)
    own: NDArray[np.int64] = free[starts + n] - free[starts]
    return own


def _whole_questions(batch: WordBatch, items: Sequence[HeldoutItem], first: int) -> tuple[Hashes, NDArray[np.int64]]:
    """Keys of the questions of items that ask once; a turn of a longer conversation says too little alone."""
    keys, lengths = batch.piece_keys(), np.diff(batch.pieces)
    ends = np.cumsum([len(item.questions) + 1 for item in items])
    places = [int(end) - 2 for end, item in zip(ends, items, strict=True)]
    good = [index for index, place in enumerate(places) if len(items[index].questions) == 1 and lengths[place] >= _LEAST_QUESTION]
    return keys[[places[index] for index in good]], np.array(good, np.int64) + first


def _sorted_unique(parts: Sequence[tuple[Hashes, NDArray[np.int64]]]) -> tuple[Hashes, NDArray[np.int64]]:
    if not parts:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    values, first = np.unique(np.concatenate([part[0] for part in parts]), return_index=True)
    return values, np.concatenate([part[1] for part in parts])[first]


class Contamination:
    """Training rows against every held-out suite, and against the held-out rows of every earlier round."""

    def __init__(self, items: Sequence[HeldoutItem], boilerplate: Boilerplate, n: int, own_words: int) -> None:
        self._index = HeldoutIndex(items, boilerplate.phrases, n, own_words)
        self._rows: dict[str, int] = dict.fromkeys(self._index.suites, 0)

    def observe(self, batch: Batch) -> Iterator[tuple[int, Finding]]:
        if len(self._index):
            for place, item in sorted(self._index.hits(batch.words).items()):
                self._rows[item.suite] += 1
                yield (
                    place,
                    Finding("contamination", batch.rows[place].line, f"gives away item {item.line} of the held-out suite {item.suite!r}"),
                )

    def conclude(self, drop: WholeDrop) -> Iterator[tuple[int, Finding]]:
        return iter(())

    def summary(self) -> Mapping[str, Any]:
        items = self._index.suites
        return {"contamination": {name: {"items": items[name], "rows": rows} for name, rows in self._rows.items()}}
