"""What a drop's rows share because of how they were made (an instruction, a list of options), learnt from its first rows.

Two questions about likeness would be answered wrongly without it: short tasks under one long instruction would all be near
duplicates of one another, and a suite made with the same template would contaminate every row.
"""

from __future__ import annotations

from dataclasses import dataclass

from data_contracts.matching.signatures import SHINGLE
from data_contracts.rows.words import Hashes, WordBatch, frequent

#: Rows that are looked at to learn the template.
SAMPLE = 2000
#: A run of this many words is what contamination calls a phrase.
PHRASE = 5
_LEAST_ROWS = 10
_SHINGLE_SHARE, _PHRASE_SHARE, _SUITE_SHARE = 0.05, 0.30, 0.05


@dataclass(frozen=True)
class Boilerplate:
    """shingles: sorted hashes of runs of 2 words in over 5 % of the rows; phrases: of runs of 5 words in over 30 %; frames: in over 5 %."""

    shingles: Hashes
    phrases: Hashes
    frames: Hashes


def learn_boilerplate(sample: WordBatch) -> Boilerplate:
    """From the first rows of a drop. Phrases need a far larger share, because what they cover is exempt from contamination. Between the
    rows of one drop, where several question frames are usual and no item is hidden on purpose, frames are enough."""
    return Boilerplate(
        shingles=frequent(sample, SHINGLE, more_than=max(_LEAST_ROWS, _SHINGLE_SHARE * len(sample))),
        phrases=frequent(sample, PHRASE, more_than=max(_LEAST_ROWS, _PHRASE_SHARE * len(sample))),
        frames=frequent(sample, PHRASE, more_than=max(_LEAST_ROWS, _SHINGLE_SHARE * len(sample))),
    )


def suite_phrases(items: WordBatch) -> Hashes:
    """Sorted hashes of the runs of 5 words that many items of one suite share: its prompt template."""
    return frequent(items, PHRASE, more_than=max(_LEAST_ROWS, _SUITE_SHARE * len(items)))
