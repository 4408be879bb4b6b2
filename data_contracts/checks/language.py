"""Which language each row is in, by script and by the commonest words; reports a drop that mixes languages.

Coarse on purpose: it sees that a drop changed its language, or that a tenth of it is in another one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from data_contracts.rows.findings import Batch, Finding, WholeDrop
from data_contracts.rows.words import HashSet, WordBatch, word_hash

_COMMON = {
    "en": "the of and to in is that it was for on are with as at be this from have or by not but what which you he she they we his her",
    "de": "der die das und ist nicht ein eine zu den mit von für auf sich dem des im wird auch als es ich sie wir war oder werden",
    "fr": "le la les et des est une dans que qui pour sur pas au avec ce il elle nous vous sont du par plus cette être",
    "es": "el los las que una por con para está del se su como más pero sus este son fue ha muy también",
    "it": "il che di della per una sono con non gli nel più alla come dei anche questo delle ha è",
    "pt": "os uma não com para dos das que em por mais como foi ao é são também seu sua",
    "nl": "het een van dat niet zijn op voor met te aan ook maar door naar wordt worden deze",
    "pl": "nie się na jest że do jak przez oraz dla tego są ale jego może",
    "sv": "och att det som en på är av för med till den har inte om ett",
    "tr": "bir ve bu için ile çok olarak daha gibi olan değil ama",
}
_CODES = tuple(_COMMON)
_PAIRS = sorted((word_hash(word), code) for code, language in enumerate(_CODES) for word in set(_COMMON[language].split()))
#: Sorted hashes of the common words, and the language of each; a word of two languages occurs twice.
_HASHES, _LANGUAGE = np.array([pair[0] for pair in _PAIRS], np.uint64), np.array([pair[1] for pair in _PAIRS])
_COMMON_WORDS = HashSet(_HASHES)

_SCRIPTS = (
    ("ja", re.compile("[\u3040-\u30ff]")),
    ("ko", re.compile("[\uac00-\ud7af]")),
    ("zh", re.compile("[\u4e00-\u9fff]")),
    ("ru/uk", re.compile("[\u0400-\u04ff]")),
    ("ar", re.compile("[\u0600-\u06ff]")),
    ("he", re.compile("[\u0590-\u05ff]")),
    ("el", re.compile("[\u0370-\u03ff]")),
    ("hi", re.compile("[\u0900-\u097f]")),
    ("th", re.compile("[\u0e00-\u0e7f]")),
)
UNKNOWN = "?"
_LEAST_VOTES = 3
_SEARCHED = 600


def script_of(text: str) -> str | None:
    """The language that a script gives away, where a fifth of the letters are of that script."""
    sample = text[:_SEARCHED]
    if sample.isascii():
        return None
    letters = sum(char.isalpha() for char in sample)
    return next((language for language, script in _SCRIPTS if len(script.findall(sample)) > 0.2 * letters > 0), None)


def languages_of(words: WordBatch) -> list[str]:
    """A language code for each row by its common words, or "?" where there is too little evidence (numbers, code, a few words)."""
    common = np.flatnonzero(_COMMON_WORDS.contains(words.hashes))
    row, hashes = words.row_of_word[common], words.hashes[common]
    begin, end = np.searchsorted(_HASHES, hashes, side="left"), np.searchsorted(_HASHES, hashes, side="right")
    counts = np.zeros(len(words) * len(_CODES), np.int64)
    while (hit := begin < end).any():
        counts += np.bincount(row[hit] * len(_CODES) + _LANGUAGE[begin[hit]], minlength=len(counts))
        begin = begin + 1
    votes = counts.reshape(len(words), len(_CODES))
    ranked = np.sort(votes, axis=1)
    clear = (ranked[:, -1] >= _LEAST_VOTES) & (ranked[:, -1] > ranked[:, -2])
    return [_CODES[best] if sure else UNKNOWN for best, sure in zip(votes.argmax(axis=1), clear, strict=True)]


class Languages:
    """Counts rows by language; warns where the main one has less than `main_share` of the rows whose language is known."""

    def __init__(self, main_share: float) -> None:
        self._main_share = main_share
        self._rows: Counter[str] = Counter()
        self._first: dict[str, int] = {}

    def observe(self, batch: Batch) -> Iterator[tuple[int, Finding]]:
        for row, text, by_words in zip(batch.rows, batch.contents, languages_of(batch.words), strict=True):
            language = script_of(text) or by_words
            self._rows[language] += 1
            self._first.setdefault(language, row.line)
        return iter(())

    def conclude(self, drop: WholeDrop) -> Iterator[tuple[int, Finding]]:
        counted = sum(rows for language, rows in self._rows.items() if language != UNKNOWN)
        known = [pair for pair in self._rows.most_common() if pair[0] != UNKNOWN]
        if counted and not known[0][1] >= self._main_share * counted:
            others = ", ".join(f"{language} {rows / counted:.1%} (first on line {self._first[language]})" for language, rows in known[1:5])
            yield -1, Finding("language", 0, f"mixes languages: {known[0][0]} {known[0][1] / counted:.1%}, {others}")

    def summary(self) -> Mapping[str, Any]:
        return {"languages": dict(sorted(self._rows.items(), key=lambda pair: (-pair[1], pair[0])))}
