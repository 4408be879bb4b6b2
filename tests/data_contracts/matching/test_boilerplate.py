"""What a drop's rows share because of how they were made is learned from its rows; what a few of them share is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from data_contracts.matching.boilerplate import PHRASE, learn_boilerplate, suite_phrases
from data_contracts.matching.signatures import SHINGLE
from data_contracts.rows.words import WordBatch, contains, word_batch

Prose = Callable[[int, int], str]
FRAME = "please answer the following question in one word"


def _batch(texts: Iterable[str]) -> WordBatch:
    return word_batch([[text] for text in texts])


def _runs_known(text: str, n: int, hashes: object) -> list[bool]:
    return contains(hashes, _batch([text]).grams(n)[0]).tolist()  # type: ignore[arg-type]


def test_a_frame_of_every_row_is_boilerplate_and_a_rare_one_is_not(prose: Prose) -> None:
    rows = [f"{FRAME} {prose(seed, 20)}" for seed in range(200)]
    rows[:8] = [f"a sentence that eight of the rows hold {prose(900 + seed, 20)}" for seed in range(8)]
    learned = learn_boilerplate(_batch(rows))
    assert all(_runs_known(FRAME, SHINGLE, learned.shingles))
    assert all(_runs_known(FRAME, PHRASE, learned.phrases))
    assert not any(_runs_known("a sentence that eight of the rows hold", SHINGLE, learned.shingles))
    assert not any(_runs_known("a sentence that eight of the rows hold", PHRASE, learned.frames))


def test_one_frame_of_several_is_a_frame_and_no_phrase(prose: Prose) -> None:
    """Phrases are exempt from contamination, so they need 30 % of the rows; within one drop 5 % are enough."""
    rows = [f"{FRAME if seed % 5 == 0 else ''} {prose(seed, 20)}" for seed in range(200)]
    learned = learn_boilerplate(_batch(rows))
    assert all(_runs_known(FRAME, PHRASE, learned.frames))
    assert not any(_runs_known(FRAME, PHRASE, learned.phrases))


def test_a_suite_of_few_items_has_no_template(prose: Prose) -> None:
    items = [f"{FRAME} {prose(seed, 20)}" for seed in range(30)]
    assert all(_runs_known(FRAME, PHRASE, suite_phrases(_batch(items))))
    assert len(suite_phrases(_batch(items[:10]))) == 0
