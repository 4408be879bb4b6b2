"""Word hashes of many rows at once agree with plain Python on one row at a time."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.rows.words import HashSet, contains, covered, frequent, word_batch, word_hash, words_of

ROWS = st.lists(st.lists(st.text(alphabet="abc ", max_size=12), max_size=3), max_size=6)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The cat, the Cat!", ["the", "cat", "the", "cat"]),
        ("don't snake_case 3.14", ["don", "t", "snake", "case", "3", "14"]),
        ("<p>bold</p> &lt;br&gt; a < b", ["bold", "a", "b"]),
        ("猫が座る", ["猫", "が", "座", "る"]),
        ("Straße ＡＢＣ", ["strasse", "abc"]),
        ("", []),
    ],
)
def test_what_a_word_is(text: str, words: list[str]) -> None:
    assert [word.decode() for word in words_of(text)] == words


def _runs(row: list[str], n: int) -> list[tuple[str, ...]]:
    words = " ".join(row).split()
    return [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]


@given(ROWS, st.integers(1, 5))
def test_runs_of_words_lie_within_one_row_and_equal_runs_have_equal_hashes(rows: list[list[str]], n: int) -> None:
    batch = word_batch(rows)
    hashes, owner = batch.grams(n)
    expected = [(place, run) for place, row in enumerate(rows) for run in _runs(row, n)]
    assert owner.tolist() == [place for place, _ in expected]
    assert len(set(hashes.tolist())) == len({run for _, run in expected})
    by_hash = dict(zip(hashes.tolist(), (run for _, run in expected), strict=True))
    assert [by_hash[value] for value in hashes.tolist()] == [run for _, run in expected]


@given(ROWS, st.integers(1, 3), st.integers(0, 3))
def test_frequent_runs_are_those_of_many_rows(rows: list[list[str]], n: int, least: int) -> None:
    batch = word_batch(rows)
    in_rows = Counter(run for row in rows for run in set(_runs(row, n)))
    found = frequent(batch, n, more_than=least)
    assert len(found) == sum(count > least for count in in_rows.values())
    assert found.tolist() == sorted(found.tolist())


@given(ROWS, st.integers(1, 3))
def test_covered_words_lie_in_a_wanted_run(rows: list[list[str]], n: int) -> None:
    batch = word_batch(rows)
    runs, _ = batch.grams(n)
    wanted = np.unique(runs[::2])
    marks = np.zeros(len(batch.hashes), bool)
    for start, run in zip(batch.starts(n).tolist(), runs.tolist(), strict=True):
        if run in set(wanted.tolist()):
            marks[start : start + n] = True
    assert covered(batch, n, wanted).tolist() == marks.tolist()


@given(st.lists(st.integers(0, 2**64 - 1), max_size=50, unique=True), st.lists(st.integers(0, 2**64 - 1), max_size=50))
def test_both_ways_to_look_a_hash_up_agree_with_a_set(values: list[int], others: list[int]) -> None:
    held, wanted = np.sort(np.array(values, np.uint64)), np.array(values[::2] + others, np.uint64)
    expected = [value in set(values) for value in wanted.tolist()]
    assert contains(held, wanted).tolist() == expected
    assert HashSet(held).contains(wanted).tolist() == expected


def test_pieces_that_say_the_same_have_one_content_whatever_their_marks() -> None:
    batch = word_batch([["Who is it?", "who is **it**"], ["who is it +", ""]])
    contents = batch.contents.tolist()
    assert contents[0] == contents[1] != contents[2]
    assert contents[3] == 0
    assert batch.owners.tolist() == [0, 0, 1, 1]
    assert batch.hashes[0] == word_hash("who")
