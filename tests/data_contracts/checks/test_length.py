"""Lengths: in words without a template and in tokens with one; a row that training would cut is named, a refused one is not counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from data_contracts.checks.length import Length
from data_contracts.checks.template import Template
from data_contracts.errors import RenderingError
from data_contracts.rendering import RowText
from data_contracts.rows.findings import Batch
from data_contracts.rows.records import Row


class Letters:
    """One token a letter; a text that begins with x is refused."""

    max_tokens = 4

    def render(self, rows: Sequence[Mapping[str, Any]]) -> list[RowText | RenderingError]:
        return [RenderingError("", "no") if row["text"].startswith("x") else RowText((row["text"],)) for row in rows]

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        return [len(text) for text in texts]


def _batch(*texts: str) -> Batch:
    return Batch([Row(line, "document", {"text": text}) for line, text in enumerate(texts, 1)], 0)


def test_words_are_counted_where_there_is_no_template() -> None:
    check = Length(None)
    assert list(check.observe(_batch("one two three", "one", ""))) == []
    summary = check.summary()["length"]
    assert (summary["unit"], summary["mean"], summary["longest"], summary["limit"]) == ("words", round(4 / 3, 1), 3, None)
    assert sum(part["rows"] for part in summary["bins"]) == 3
    assert all(part["from"] <= 3 < 4 for part in summary["bins"])


def test_a_row_over_the_limit_in_tokens_is_named_and_a_refused_one_has_no_length() -> None:
    template = Template(Letters())
    check, batch = Length(template), _batch("abcd", "abcde", "xyz")
    list(template.observe(batch))
    found = [(place, finding.check, finding.line, finding.reason) for place, finding in check.observe(batch)]
    assert found == [(1, "too_long", 2, "has 5 tokens: training takes 4")]
    summary = check.summary()["length"]
    assert (summary["unit"], summary["mean"], summary["longest"], summary["limit"], summary["over_limit"]) == ("tokens", 4.5, 5, 4, 1)


def test_every_length_lies_in_its_bin_and_bins_double_in_eight_steps() -> None:
    for words in (1, 2, 3, 7, 8, 100, 1000):
        check = Length(None)
        list(check.observe(_batch("a " * words)))
        [part] = check.summary()["length"]["bins"]
        assert part["from"] - 0.05 <= words < part["to"] + 0.05
        assert part["to"] / part["from"] < 2 ** (1 / 8) * 1.06
